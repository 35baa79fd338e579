"""How consistent a machine's recovery points are to be: what its policy asks for, what it asks for
itself, and which of the two counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from holdfast.domain.policy_reading import optional_part, refuse
from holdfast.domain.virtual_machines import LEVELS, ConsistencyWish, level_of
from holdfast.errors import UsageError

KEY, WISH, LEAST = "consistency", "wish", "atLeast"  # of a policy's properties, and of an item's
AS_POLICY = "policy"  # said of a machine: it has no minimum of its own (any more)
LOWEST = LEVELS[0]


@dataclass(frozen=True, slots=True)
class InForce:
    """What counts for a machine's next backup. ``by``: who asks for the minimum."""

    wish: str
    minimum: str
    by: Literal["machine", "policy", "default"]


def crash_consistent_only(properties: Mapping[str, Any]) -> bool:
    """Whether a policy has backups of machines taken without asking the guest."""
    return properties.get("snapshotConsistencyType") == "OnlyCrashConsistent"


def read_minimum(properties: Mapping[str, Any]) -> str | None:
    """Of a policy's properties; None when it asks for none. UsageError
    (UserErrorInvalidPolicyInput)."""
    found = optional_part(properties, KEY)
    if found is None:
        return None
    least = found.get(LEAST)
    try:
        level = level_of(least if isinstance(least, str) else "")
    except UsageError:
        raise refuse(
            f"consistency.atLeast of {str(least)[:50]!r} is no level of consistency",
            f"give one of {', '.join(LEVELS)}",
        ) from None
    if level != LOWEST and crash_consistent_only(properties):
        raise refuse(
            f"a policy that asks no guest (OnlyCrashConsistent) reaches no {level}",
            "leave out snapshotConsistencyType, or send consistency as null",
        )
    return level


def own_wish(properties: Mapping[str, Any]) -> ConsistencyWish:
    """Of an item's properties."""
    found = properties.get(KEY) or {}
    return ConsistencyWish(found.get(WISH) or LEVELS[-1], found.get(LEAST) or "")


def in_force(own: ConsistencyWish, policy: Mapping[str, Any]) -> InForce:
    """A machine's own minimum, when it has one; otherwise the one of its policy (``policy``: its
    properties); otherwise the lowest level. A policy that asks no guest has that of all."""
    if crash_consistent_only(policy):
        return InForce(LOWEST, LOWEST, "default")
    if own.minimum:
        return InForce(own.wish, own.minimum, "machine")
    asked = read_minimum(policy)
    if asked is not None:
        return InForce(own.wish, asked, "policy")
    return InForce(own.wish, LOWEST, "default")


def check_reachable(own: ConsistencyWish, policy: Mapping[str, Any], name: str) -> None:
    """``name``: the policy's. UsageError (InvalidConsistency) when no more is tried than less than
    the policy asks for."""
    found = in_force(own, policy)
    if LEVELS.index(found.minimum) > LEVELS.index(found.wish):
        raise UsageError(
            f"policy {name} asks for at least {found.minimum}, and no more than {found.wish} is "
            "tried for this machine",
            code="InvalidConsistency",
            hint="give a higher --consistency, or an --at-least of the machine's own",
        )
