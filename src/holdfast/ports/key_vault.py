"""Where a host keeps the keys of guests' encrypted volumes: secrets with names and versions.

A name is 1 to 127 letters, digits and hyphens. Versions are numbers from 1; the highest is the
current one. A version never changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

from holdfast.errors import NotFoundError, UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,126}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")
MAX_SECRET = 64 * 1024  # [bytes]


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret, 1 to ``MAX_SECRET`` bytes. Its text shows no value."""

    name: str
    version: str
    value: bytes = field(repr=False)


class KeyVault(Protocol):
    """Thread safe. All raise SourceError (KeyVaultUnsafe: others than its owner may read it;
    KeyVaultUnreadable) and UsageError (SecretNameRefused)."""

    def names(self) -> list[str]:
        """Of all secrets, sorted; none where there is no vault yet."""
        ...

    def versions(self, name: str) -> list[str]:
        """Oldest first; none of a secret that is not there."""
        ...

    def get(self, name: str, version: str = "") -> Secret:
        """That version, or the current one. NotFoundError (SecretNotFound), SourceError
        (SecretRefused: empty or too large)."""
        ...

    def put(self, name: str, value: bytes, version: str = "") -> Secret:
        """See that a version holds ``value``; what is there stays as it is. When none does it
        becomes a new one: ``version`` when that is free, else the one after the highest.
        TargetError (KeyVaultUnwritable), UsageError (SecretRefused)."""
        ...


def check_name(name: str, version: str = "") -> None:
    """UsageError (SecretNameRefused): nothing that could lead elsewhere is a name."""
    if NAME.fullmatch(name) and (not version or VERSION.fullmatch(version)):
        return
    shown = f"{name}/{version}" if version else name
    raise UsageError(
        f"{shown[:200]!r} is no name of a secret",
        code="SecretNameRefused",
        hint="1 to 127 letters, digits and hyphens; a version is a number from 1: NAME or NAME/3",
    )


def read_reference(text: str) -> tuple[str, str]:
    """(name, version) of ``NAME`` or ``NAME/VERSION``. UsageError (SecretNameRefused)."""
    name, slash, version = text.partition("/")
    if slash and not version:
        version = "/"  # no version's name
    check_name(name, version)
    return name, version


def secret_missing(name: str, version: str = "") -> NotFoundError:
    shown = f"{name}, version {version}," if version else name
    return NotFoundError(
        f"the host's key vault has no secret {shown}",
        code="SecretNotFound",
        hint="put the key there, readable to the agent's user alone, or correct the name in the "
        "agent's holdfast.toml",
    )
