"""Paths as text, reversibly. Names of files are bytes; JSON and tables hold text.

One rule for the REST API and the command line: a backslash is written twice, and each byte of what
is not UTF-8 or cannot be printed (a newline) as ``\\xNN``. Everything else stands for itself, so
that an ordinary path is its own text. When read, a backslash before anything but a backslash or
``xNN`` stands for itself too.
"""

from __future__ import annotations

import re

from holdfast.errors import UsageError

_ESCAPE = re.compile(rb"\\(\\|x[0-9a-fA-F]{2})")


def encode_path(raw: bytes) -> str:
    """The text of a path or a name; ``decode_path`` gives back the same bytes."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_encoded, text))


def _encoded(one: str) -> str:
    if one == "\\":
        return "\\\\"
    if one.isprintable():
        return one
    return "".join(f"\\x{byte:02x}" for byte in one.encode("utf-8", "surrogateescape"))


def decode_path(text: str) -> bytes:
    """The bytes that ``text`` stands for. UsageError (InvalidPath) for what no path can hold."""
    try:
        return unescape(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise _invalid(ascii(text)) from error


def unescape(raw: bytes) -> bytes:
    """As ``decode_path``, for text that is bytes still (an argument of a command)."""
    found = _ESCAPE.sub(_plain, raw)
    if b"\0" in found:
        raise _invalid(ascii(raw.decode(errors="backslashreplace")))
    return found


def _plain(escape: re.Match[bytes]) -> bytes:
    what = escape[1]
    return what if what == b"\\" else bytes([int(what[1:], 16)])


def _invalid(shown: str) -> UsageError:
    return UsageError(
        f"{shown} cannot be a path",
        code="InvalidPath",
        hint="a byte that is not UTF-8 is written \\xNN: see docs/reference/paths.md",
    )


def shown_text(text: str) -> str:
    """A message that may quote a path as the system gave it, fit for JSON."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
