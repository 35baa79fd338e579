"""What a TLS client offers in its first message, read from bytes that are still unread."""

from __future__ import annotations

import struct

RECORD_HEAD = 5
MAX_RECORD = 16 * 1024
_HANDSHAKE, _CLIENT_HELLO, _ALPN = 22, 1, 16
_VERSION_AND_RANDOM = 34
NOTHING: frozenset[str] = frozenset()


def offered(data: bytes) -> frozenset[str] | None:
    """The protocol names of the hello that ``data`` begins with; None until it is whole. Empty for
    whatever is no plain hello: the TLS library will say what is wrong with it."""
    if data and data[0] != _HANDSHAKE:
        return NOTHING
    if len(data) < RECORD_HEAD:
        return None
    (length,) = struct.unpack_from(">H", data, 3)
    if length > MAX_RECORD:
        return NOTHING
    if len(data) < RECORD_HEAD + length:
        return None
    try:
        return _names(_extension(data[RECORD_HEAD : RECORD_HEAD + length], _ALPN))
    except (struct.error, ValueError):
        return NOTHING


def _extension(message: bytes, wanted: int) -> bytes:
    """The body of one extension of a hello; b"" when it has none. ValueError."""
    if message[:1] != bytes([_CLIENT_HELLO]):
        raise ValueError("no hello")
    at = 4 + _VERSION_AND_RANDOM
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        at += width + int.from_bytes(_exactly(message, at, width), "big")
    (total,) = struct.unpack_from(">H", message, at)
    at, end = at + 2, at + 2 + total
    while at < end:
        kind, length = struct.unpack_from(">HH", message, at)
        body = _exactly(message, at + 4, length)
        if kind == wanted:
            return body
        at += 4 + length
    return b""


def _names(extension: bytes) -> frozenset[str]:
    names: set[str] = set()
    at = 2
    while at < len(extension):
        length = extension[at]
        names.add(_exactly(extension, at + 1, length).decode("latin-1"))
        at += 1 + length
    return frozenset(names)


def _exactly(data: bytes, at: int, length: int) -> bytes:
    found = data[at : at + length]
    if len(found) != length:
        raise ValueError("cut off")
    return found
