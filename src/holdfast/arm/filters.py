"""``$filter``: ``key eq 'value'`` joined by ``and``; dates in the clients' twelve-hour form."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from holdfast.errors import UsageError

_TERM = re.compile(r"\s*(\w+)\s+(eq|ge|le|gt|lt)\s+(?:'((?:[^']|'')*)'|(\S+))\s*", re.IGNORECASE)
_AND = re.compile(r"and\b", re.IGNORECASE)
_FORMS = ("%Y-%m-%d %I:%M:%S %p", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S")
MAX_FILTER = 4096


def parse_filter(text: str) -> dict[str, str]:
    """Lower-case key to value. UsageError (InvalidFilter)."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None or len(text) > MAX_FILTER:
            raise UsageError(
                f"the filter {text[:200]!r} cannot be read",
                code="InvalidFilter",
                hint="write it as: key eq 'value' and key eq 'value'",
            )
        key, _, quoted, bare = match.groups()
        found[key.lower()] = quoted.replace("''", "'") if quoted is not None else bare
        at = match.end()
        joint = _AND.match(text, at)
        at = joint.end() if joint else at
    return found


def parse_date(text: str | None) -> datetime | None:
    """A filter's date, in UTC. UsageError (InvalidFilter)."""
    if not text:
        return None
    for form in _FORMS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise UsageError(f"{text!r} is no date", code="InvalidFilter", hint="2026-01-31 10:00:00 AM")
