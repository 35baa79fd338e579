"""Names as parts of addresses: a name never leads to something else than what it names."""

from __future__ import annotations

from urllib.parse import quote

from holdfast.errors import UsageError

MOST_LETTERS = 300  # longer than any name that is allowed


def segment(name: str, safe: str = "") -> str:
    """``name`` for one segment of an address; ``safe``: characters it may hold as they are.
    UsageError (InvalidName) for what no resource can be called."""
    if name in ("", ".", "..") or len(name) > MOST_LETTERS or not name.isprintable():
        shown = ascii(name if len(name) <= 40 else f"{name[:40]}...")
        raise UsageError(
            f"{shown} cannot be a name",
            code="InvalidName",
            hint=f"give the name as lists show it: at most {MOST_LETTERS} printable characters",
        )
    return quote(name, safe=safe)
