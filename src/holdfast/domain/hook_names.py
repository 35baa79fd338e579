"""Webhooks by name. Whoever runs the server says where a name leads; whoever runs a vault chooses
names only, so that nobody else can make the server post to an address it can reach."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from holdfast.errors import UsageError

SERVER = "server"  # the one that is told about every vault
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def is_web_address(text: str) -> bool:
    """Whether it begins with https:// and names a host, without a login."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc


def read_hooks(text: str) -> dict[str, str]:
    """Name -> address, from ``NAME=https://..., ...``. UsageError (InvalidSettings)."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, address = (one.strip() for one in part.partition("="))
        if not _NAME.fullmatch(name) or name == SERVER or name in found:
            raise _wrong(f"{name[:50]!r} is no name, or one that is taken")
        if not is_web_address(address):
            raise _wrong(f"the address of {name} does not begin with https:// and name a host")
        found[name] = address
    return found


def check_hooks(names: Collection[str], known: Collection[str]) -> None:
    """UsageError (InvalidAlertSettings) when the server has no webhook of one of the names."""
    for name in names:
        if name not in known:
            raise UsageError(
                f"this server has no webhook {name[:50]!r}",
                code="InvalidAlertSettings",
                hint=f"it has: {', '.join(sorted(known)) or 'none; its settings name them'}",
            )


def _wrong(why: str) -> UsageError:
    return UsageError(
        f"alert_webhooks: {why}",
        code="InvalidSettings",
        hint="write it as: team-a=https://chat.example.org/hooks/1, team-b=https://...",
    )
