"""Names of resources: what is allowed, and how machines and items are named in ARM."""

from __future__ import annotations

import re

from holdfast.domain.virtual_machines import CONTAINER_PREFIX, ITEM_PREFIX, names_in
from holdfast.errors import UsageError

_VAULT = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,49}")
_GROUP = re.compile(r"[A-Za-z0-9._()-]{0,89}[A-Za-z0-9_()-]")
_POLICY = re.compile(r"[A-Za-z][A-Za-z0-9-]{2,149}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
FILES_ITEM = "FileFolder"
CONTAINERS = ("Linux", "Windows")
_ITEM_BAD = re.compile(r'[<>%&:\\?/#;"\x00-\x1f\x7f-\x9f\ud800-\udfff]')


def _check(pattern: re.Pattern[str], name: str, what: str, rule: str) -> str:
    if not pattern.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a {what}", code="InvalidName", hint=rule)
    return name


def check_vault(name: str) -> str:
    return _check(_VAULT, name, "vault", "2 to 50 letters, digits and hyphens, a letter first")


def check_group(name: str) -> str:
    rule = "1 to 90 letters, digits and ._()- , no full stop at the end"
    return _check(_GROUP, name, "resource group", rule)


def check_policy(name: str) -> str:
    return _check(_POLICY, name, "policy", "3 to 150 letters, digits and hyphens, a letter first")


def check_host(name: str) -> str:
    return _check(_HOST, name, "machine", "letters, digits, full stops and hyphens")


def check_region(name: str) -> str:
    return _check(_REGION, name, "region", "letters, digits and hyphens")


def is_same_location(one: str, other: str) -> bool:
    """Locations are written "On Prem 1" and "onprem1" alike."""
    return one.replace(" ", "").lower() == other.replace(" ", "").lower()


def check_item(name: str) -> str:
    """Names of files items may hold spaces, not what separates resource names."""
    if not 1 <= len(name) <= 150 or _ITEM_BAD.search(name) or name != name.strip():
        raise _no_item(name)
    return name


def _no_item(name: str) -> UsageError:
    return UsageError(
        f"{name!r} is no name for an item",
        code="InvalidName",
        hint='1 to 150 characters without < > % & : \\ ? / # ; " , control characters and '
        "blanks at its ends",
    )


def check_full_item(name: str) -> str:
    """An item's full name: ``FileFolder;name``, or that of a virtual machine."""
    kind, _, rest = name.partition(";")
    if kind == ITEM_PREFIX and names_in(name) is not None:
        return name
    if kind != FILES_ITEM:
        raise _no_item(name)
    check_item(rest)
    return name


def container_name(host: str, platform: str = "linux") -> str:
    """``Linux;host`` (``Windows;host`` on Windows)."""
    return f"{'Windows' if platform.lower().startswith('win') else 'Linux'};{check_host(host)}"


def full_container_name(name: str) -> str:
    """A container's full name, from itself or from the bare host name."""
    known = (*CONTAINERS, CONTAINER_PREFIX)
    return _known_prefix(name, known) if ";" in name else container_name(name)


def item_name(name: str) -> str:
    """``FileFolder;name``."""
    return f"{FILES_ITEM};{check_item(name)}"


def full_item_name(name: str) -> str:
    return _known_prefix(name, (FILES_ITEM, ITEM_PREFIX)) if ";" in name else item_name(name)


def _known_prefix(name: str, known: tuple[str, ...]) -> str:
    """``name`` with its first part written as we write it; unknown ones stay as they are."""
    first, _, rest = name.partition(";")
    found = [one for one in known if one.lower() == first.lower()]
    return f"{found[0]};{rest}" if found else name


def friendly(full_name: str) -> str:
    """The last part of a semicolon name."""
    return full_name.rpartition(";")[2]


def item_key(container: str, item: str) -> str:
    """How an item is named inside the vault store."""
    return f"{container}/{item}"
