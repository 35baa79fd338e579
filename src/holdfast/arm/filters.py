"""``$filter``: ``key eq 'value'`` joined by ``and``; dates in the clients' twelve-hour form."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from holdfast.errors import UsageError

_TERM = re.compile(
    r"\s*(\w+)\s+(eq|ge|le|gt|lt)\s+(?:'((?:[^']|'')*)'|([^\s']+))\s*", re.IGNORECASE
)
_AND = re.compile(r"and\b", re.IGNORECASE)
_FORMS = ("%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %H:%M:%S %p", "%Y-%m-%d %H:%M:%S")
MAX_FILTER = 4096


def parse_filter(text: str, *, lenient: bool = False) -> dict[str, str]:
    """Lower-case key to value. UsageError (InvalidFilter); ``lenient``: {} instead."""
    if lenient:
        try:
            return parse_filter(text)
        except UsageError:
            return {}
    found: dict[str, str] = {}
    at, joined = 0, False
    while at < len(text) or joined:
        match = _TERM.match(text, at)
        if match is None or len(text) > MAX_FILTER:
            raise _unreadable(text)
        key, _, quoted, bare = match.groups()
        found[key.lower()] = quoted.replace("''", "'") if quoted is not None else bare
        joint = _AND.match(text, match.end())
        joined = joint is not None
        at = joint.end() if joint else match.end()
        if not joined and at < len(text):
            raise _unreadable(text)
    return found


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"the filter {text[:200]!r} cannot be read",
        code="InvalidFilter",
        hint="write it as: key eq 'value' and key eq 'value'",
    )


def parse_date(text: str | None) -> datetime | None:
    """A filter's date, in UTC. UsageError (InvalidFilter)."""
    if not text:
        return None
    for form in _FORMS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text[:100]!r} is no date",
            code="InvalidFilter",
            hint="write it as 2026-01-31 10:00:00 AM",
        ) from error


FILES, MACHINES = ("MAB", "FileFolder"), ("AzureIaasVM", "VM")  # management type, workload
KNOWN = (FILES, MACHINES)


def kind_asked(wanted: dict[str, str]) -> tuple[str, str] | None:
    """The kind of backup a filter chooses, by backupManagementType, itemType or workloadType; None
    for all kinds. LookupError for one that is not here."""
    named = {key: wanted.get(key, "").lower() for key in ("backupmanagementtype", "workloadtype")}
    named["itemtype"] = wanted.get("itemtype", "").lower()
    fitting = [
        kind
        for kind in KNOWN
        if named["backupmanagementtype"] in ("", kind[0].lower())
        and named["workloadtype"] in ("", kind[1].lower())
        and named["itemtype"] in ("", kind[1].lower())
    ]
    if not fitting:
        raise LookupError("no item is of that kind")
    return None if len(fitting) > 1 else fitting[0]
