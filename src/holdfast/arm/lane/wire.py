"""HTTP/1.1 on a blocking TLS socket: heads in small pieces, bodies straight into buffers.

Every wait ends: a head must be whole and a body must flow within fixed times, so that a client that
dawdles on purpose loses its connection.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

import httptools

from holdfast.arm.receiving import MAX_PACK_BYTES, is_length
from holdfast.errors import UsageError

MAX_HEAD = 32 * 1024
HEAD_SECONDS = 10.0  # from a head's first byte to its last; for the first request, from the start
IDLE_SECONDS = 75.0
SILENT_SECONDS = 60.0
GONE = (TimeoutError, ConnectionError, ssl.SSLError)  # what ends a connection
LEAST_RATE = 4096  # [bytes/s] a body that comes slower over its whole length is given up
SEND_BYTES = 1024 * 1024


def body_deadline(size: int) -> float:
    """When a body of ``size`` bytes that starts now must be over."""
    return time.monotonic() + SILENT_SECONDS + size / LEAST_RATE


class Stream:
    """The bytes of one connection. ``GONE`` when it is over."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._held = b""
        self._used = False

    def head(self) -> bytes:
        """The next request's head, up to its empty line; b"" when the client is done. UsageError
        when it is too long."""
        gathered, until = bytearray(self._held), time.monotonic() + HEAD_SECONDS
        while (end := gathered.find(b"\r\n\r\n")) < 0:
            if len(gathered) > MAX_HEAD:
                raise _unreadable("its head is too long")
            idle = self._used and not gathered
            piece = self._receive(IDLE_SECONDS if idle else until - time.monotonic())
            if not piece:
                return b""
            if idle:
                until = time.monotonic() + HEAD_SECONDS
            gathered += piece
        self._used = True
        self._held = bytes(gathered[end + 4 :])
        return bytes(gathered[: end + 4])

    def _receive(self, seconds: float) -> bytes:
        if seconds <= 0:
            raise TimeoutError("the request did not arrive in time")
        self._sock.settimeout(seconds)
        return self._sock.recv(MAX_HEAD)

    def fill(self, target: memoryview, deadline: float) -> None:
        """Receive exactly as many bytes as ``target`` has room for."""
        at = min(len(self._held), len(target))
        target[:at], self._held = self._held[:at], self._held[at:]
        self._sock.settimeout(SILENT_SECONDS)
        receive, clock, end = self._sock.recv_into, time.monotonic, len(target)
        while at < end:
            count = receive(target[at:])
            if not count:
                raise ConnectionResetError("the client went away within a body")
            at += count
            if clock() > deadline:
                raise TimeoutError("the body did not arrive in time")

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        view = memoryview(data)
        self._sock.settimeout(SILENT_SECONDS)
        for at in range(0, len(view), SEND_BYTES):
            self._sock.sendall(view[at : at + SEND_BYTES])
            if time.monotonic() > deadline:
                raise TimeoutError("the answer was not taken in time")


class Body:
    """A request's body, not yet read. ``size``: -1 when its length is not announced."""

    def __init__(self, stream: Stream, size: int, *, awaited: bool) -> None:
        self._stream = stream
        self._awaited = awaited
        self._deadline = 0.0
        self.size = size
        self.left = max(size, 0)

    @property
    def can_be_read(self) -> bool:
        """Whether the client sends it without waiting, and no more than a pack has."""
        return 0 <= self.size <= MAX_PACK_BYTES and not (self.left and self._awaited)

    def begin(self) -> None:
        """Tell a client that waits for it to go on."""
        self._deadline = body_deadline(self.left)
        if self._awaited:
            self._awaited = False
            self._stream.send(b"HTTP/1.1 100 Continue\r\n\r\n", self._deadline)

    def next(self, buffer: memoryview) -> memoryview:
        """The next bytes, in ``buffer``: full, but for the last piece; empty at the end."""
        piece = buffer[: min(len(buffer), self.left)]
        self._stream.fill(piece, self._deadline)
        self.left -= len(piece)
        return piece

    def discard(self, buffer: memoryview) -> None:
        """Read what is coming, so that the client hears the answer."""
        self._deadline = self._deadline or body_deadline(self.left)
        while self.left:
            self.next(buffer)


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body. Names of headers are lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    keep_alive: bool

    def parameter(self, name: str) -> str:
        return self.query.get(name, [""])[0]

    def body(self, stream: Stream) -> Body:
        length = self.headers.get("content-length", "0" if self.method == "GET" else "")
        if "transfer-encoding" in self.headers or not is_length(length):
            length = "-1"
        awaited = self.headers.get("expect", "").lower() == "100-continue"
        return Body(stream, int(length), awaited=awaited)


class _Events:
    """What the parser of a head calls."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")


def read_head(data: bytes) -> Head:
    """UsageError (InvalidRequestContent) for what is no head of a request."""
    events = _Events()
    parser = httptools.HttpRequestParser(events)
    try:
        parser.feed_data(data)
        url = httptools.parse_url(events.url)
        query = parse_qs((url.query or b"").decode("latin-1"), max_num_fields=20)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError) as error:
        raise _unreadable(str(error) or type(error).__name__) from error
    return Head(
        method=parser.get_method().decode("latin-1"),
        path=unquote((url.path or b"/").decode("latin-1")),
        query=query,
        headers=events.headers,
        keep_alive=parser.should_keep_alive(),
    )


def answer_head(status: int, headers: dict[str, str], size: int) -> bytes:
    """The head of an answer whose body has ``size`` bytes."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {size}", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _unreadable(why: str) -> UsageError:
    return UsageError(
        f"the request cannot be read: {why}",
        code="InvalidRequestContent",
        hint="use an agent of the server's version",
    )
