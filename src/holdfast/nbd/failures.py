"""What can go wrong between an NBD client and its server.

NbdError
├── NbdUnreachableError  nobody listens at the address
├── NbdRefusedError      the server does not serve what is asked for, or not to us
├── NbdProtocolError     the server breaks the protocol (defective, or not an NBD server)
├── NbdLostError         the connection ended or the server fell silent; ask again on a new one
└── NbdRequestError      the server answered one request with an error; the connection goes on
"""

from __future__ import annotations

import errno
from typing import ClassVar

from holdfast.errors import Retry, SourceError

MAX_TEXT = 200  # [characters] of a server's words in our messages


class NbdError(SourceError):
    """Base of all failures of an NBD connection."""

    code = "NbdFailed"


class NbdUnreachableError(NbdError):
    """No connection could be made."""

    code = "NbdUnreachable"
    default_retry: ClassVar[Retry] = "later"


class NbdRefusedError(NbdError):
    """The server answered and does not serve the export, or not in a way we can use."""

    code = "NbdRefused"


class NbdProtocolError(NbdError):
    """What the server sent cannot be an answer to what was asked. The connection is given up."""

    code = "NbdProtocolBroken"


class NbdLostError(NbdError):
    """The connection ended before the answer. Writes may have happened or not."""

    code = "NbdConnectionLost"
    default_retry: ClassVar[Retry] = "later"


class NbdRequestError(NbdError):
    """The server refused or failed one request. ``number``: its errno."""

    code = "NbdRequestFailed"

    def __init__(self, message: str, *, number: int, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.number = number


def printable(text: bytes) -> str:
    """A server's words, fit for a message: short, in one line, without control characters."""
    plain = text[: 4 * MAX_TEXT].decode("utf-8", errors="replace")[:MAX_TEXT]
    return "".join(one if one.isprintable() else "?" for one in plain)


def request_error(
    where: str, what: str, offset: int, length: int, number: int, text: bytes
) -> NbdRequestError:
    """The error of one request. ``where``: server and export; ``what``: the command's name."""
    name = errno.errorcode.get(number, str(number))
    said = f": {printable(text)}" if text else ""
    span = f" {length:,} bytes at {offset:,}" if length else ""
    return NbdRequestError(
        f"{where} failed to {what}{span} ({name}{said})",
        number=number,
        hint="see the log of the program that serves the disk",
    )
