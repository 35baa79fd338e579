"""What a call is named as in role definitions: by its route, or as Azure names it by its address.

Azure's names are the provider, the types in the address without the names between them, and what
is done: ``PATCH .../vaults/v1/backupconfig/vaultconfig`` is
``Microsoft.RecoveryServices/vaults/backupconfig/write``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BY_ADDRESS = "by address"
UNNAMED = "Holdfast.Backup/unnamed/action"  # granted to the owner only
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


def by_address() -> dict[str, Any]:
    """Options of a route whose action is read off its address."""
    return {"action": BY_ADDRESS}


def action_of(options: Mapping[str, Any], method: str, template: str) -> str | None:
    """The action of a route called by ``method``; None for one that asks for a login only."""
    named: str | None = options.get("action", UNNAMED)
    return address_action(method, template) if named == BY_ADDRESS else named


def address_action(method: str, template: str) -> str:
    """``template`` holds names as ``{name}``; below the provider, types and names take turns."""
    provider, *parts = template.rpartition("/providers/")[2].split("/")
    types = parts[::2]
    if method in _VERBS:
        return "/".join((provider, *types, _VERBS[method]))
    called = () if len(parts) % 2 else (parts[-1],)  # the verb of a POST stands in a name's place
    return "/".join((provider, *types, *called, "action"))
