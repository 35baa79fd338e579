"""Mail addresses: what a header and an SMTP server may be given."""

from __future__ import annotations

import re

from holdfast.errors import UsageError

# one mailbox as RFC 5321 writes it without quotes; nothing in it can end a header line
_MAILBOX = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
)
MOST_CHARS = 254


def is_address(text: str) -> bool:
    return len(text) <= MOST_CHARS and _MAILBOX.fullmatch(text) is not None


def check_address(text: str) -> str:
    """UsageError (InvalidAddress)."""
    if not is_address(text):
        raise UsageError(
            f"{text[:100]!r} is no mail address",
            code="InvalidAddress",
            hint="give it as name@host, without a display name",
        )
    return text


def addresses(text: str) -> list[str]:
    """Addresses separated by commas, each once. UsageError (InvalidAddress)."""
    found = [check_address(one.strip()) for one in text.split(",") if one.strip()]
    return list(dict.fromkeys(found))
