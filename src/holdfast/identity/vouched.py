"""Whom an OpenID provider vouches for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vouched:
    """``subject`` names the person for good; ``name``: "" when the provider does not say, or not
    surely."""

    issuer: str
    subject: str
    name: str


def external_key(issuer: str, subject: str) -> str | None:
    """What finds a person of a provider; None without one."""
    if not issuer or not subject:
        return None
    return hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()
