"""Policies of clients: what decides is refused in Azure's words, all else by its kind."""

from __future__ import annotations

import msgspec

from holdfast.arm.accepted_words import words_after
from holdfast.arm.http import Body
from holdfast.arm.schemas.policies import PolicyProperties
from holdfast.domain.policy import check_tiering, parse_policy
from holdfast.domain.policy_reading import refuse


def check_policy(properties: Body) -> None:
    """UsageError for a policy that breaks a rule (codes of ``parse_policy``), or a field of which
    is of the wrong kind or no word of Azure's (UserErrorInvalidPolicyInput): it would be stored,
    and shown to clients that cannot read it. Nulls and unknown fields pass."""
    parsed = parse_policy(properties)
    check_tiering(parsed.properties)
    try:
        msgspec.convert(parsed.properties, PolicyProperties)
    except msgspec.ValidationError as error:
        words = words_after(str(error), PolicyProperties)
        hint = f"give {' or '.join(words)}, spelt so" if words else "correct it or leave it out"
        raise refuse(f"the policy has a field that cannot be: {str(error)[:300]}", hint) from error
