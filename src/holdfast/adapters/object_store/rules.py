"""What every adapter refuses in the same way, so that no store accepts what another does not."""

from __future__ import annotations

import re

from holdfast.errors import IntegrityError, UsageError

KEY = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
PREFIX = re.compile(r"([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]*")
SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
MAX_KEY = 512
MAX_SEGMENT = 255  # of file systems


def check_key(key: str) -> str:
    """``key`` itself, or UsageError (InvalidObjectKey) when it could escape the store's folder."""
    bad = len(key) > MAX_KEY or not KEY.fullmatch(key)
    if bad or any(part in (".", "..") or len(part) > MAX_SEGMENT for part in key.split("/")):
        raise _invalid("key", key)
    return key


def check_prefix(prefix: str) -> str:
    """``prefix`` itself, or UsageError (InvalidObjectKey) when no key can begin with it."""
    bad = len(prefix) > MAX_KEY or not PREFIX.fullmatch(prefix)
    if bad or any(part in (".", "..") for part in prefix.split("/")[:-1]):
        raise _invalid("key prefix", prefix)
    return prefix


def check_content(key: str, size: int) -> None:
    """UsageError (EmptyObject) for no bytes.

    No object is empty, so an object of length zero found in a store is always damage."""
    if size == 0:
        raise UsageError(
            f"object {key} would be empty",
            code="EmptyObject",
            hint="an empty object cannot be told from one whose bytes were lost",
        )


def check_span(key: str, offset: int, length: int) -> None:
    """UsageError (InvalidRange) for a range that no read can mean."""
    if offset < 0 or length <= 0:
        raise UsageError(
            f"bad range of object {key}: {length} bytes from {offset}", code="InvalidRange"
        )


def truncated(key: str, end: int) -> IntegrityError:
    """The error of an object that ends before ``end``."""
    return IntegrityError(f"object {key} is shorter than {end} bytes", code="ObjectTruncated")


def _invalid(what: str, text: str) -> UsageError:
    return UsageError(
        f"bad object {what} {text[:80]!r}",
        code="InvalidObjectKey",
        hint=f"segments of A-Z a-z 0-9 . _ -, at most {MAX_SEGMENT} characters each, joined by "
        f"slashes, at most {MAX_KEY} characters in all",
    )
