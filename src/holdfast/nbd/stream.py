"""The bytes of one connection: exactly as many as asked for, straight into buffers.

While a connection is made, everything must happen before a deadline. Afterwards receiving waits
until the connection is ended (``end``, from any thread), and sending for a set time at most.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress

Buffer = bytes | bytearray | memoryview
SOCKET_BYTES = 4 * 1024 * 1024  # asked of the system for what is on its way; it may give less
MAX_PARTS = 512  # of one sendmsg; Linux takes 1,024
_WAIT_ALL = getattr(socket, "MSG_WAITALL", 0)


class EndOfStreamError(ConnectionError):
    """The other side closed the connection. ``clean``: between two messages."""

    def __init__(self, *, clean: bool) -> None:
        super().__init__("the other side closed the connection")
        self.clean = clean


class Stream:
    """One thread may receive while another sends."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        """``seconds`` from now the connection must be made (``made``)."""
        self._sock = sock
        self._until: float | None = time.monotonic() + seconds
        self._send_seconds: float | None = None
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)

    def made(self, send_seconds: float | None) -> None:
        """From now on only sending is limited, to ``send_seconds`` a message."""
        self._until = None
        self._send_seconds = send_seconds
        self._sock.settimeout(None)
        if send_seconds is not None:
            whole = int(send_seconds)
            limit = struct.pack("@ll", whole, int((send_seconds - whole) * 1e6))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def receive(self, count: int) -> bytes:
        """Exactly ``count`` bytes; callers bound it. ConnectionError, TimeoutError."""
        data = bytearray(count)
        self.receive_into(memoryview(data))
        return bytes(data)

    def receive_into(self, view: memoryview) -> None:
        """Fill ``view``. ConnectionError, TimeoutError."""
        at, end = 0, len(view)
        while at < end:
            self._limit()
            count = self._sock.recv_into(view[at:], 0, _WAIT_ALL)
            if not count:
                raise EndOfStreamError(clean=at == 0)
            at += count

    def discard(self, count: int, scratch: memoryview) -> None:
        """Receive ``count`` bytes and forget them."""
        while count:
            piece = scratch[: min(count, len(scratch))]
            self.receive_into(piece)
            count -= len(piece)

    def send(self, *parts: Buffer) -> None:
        """Send all parts, without joining them. ConnectionError, TimeoutError."""
        until = None
        if self._send_seconds is not None:
            until = time.monotonic() + self._send_seconds
        for at in range(0, len(parts), MAX_PARTS):
            self._send(list(parts[at : at + MAX_PARTS]), until)

    def _send(self, parts: list[Buffer], until: float | None) -> None:
        while parts:
            self._limit()
            try:
                sent = self._sock.sendmsg(parts)
            except BlockingIOError as error:  # how a time limit of the socket itself is told
                raise TimeoutError("the other side does not take what is sent") from error
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if parts:
                parts[0] = memoryview(parts[0])[sent:]
                if until is not None and time.monotonic() > until:
                    raise TimeoutError("the other side takes what is sent too slowly")

    def _limit(self) -> None:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the connection was not made in time")
            self._sock.settimeout(left)

    def end_receiving(self) -> None:
        """Nothing more is received; what is to be sent still is. From any thread."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def end(self) -> None:
        """End both directions; whoever receives or sends fails at once. From any thread."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket; nobody may be using it."""
        self.end()
        self._sock.close()
