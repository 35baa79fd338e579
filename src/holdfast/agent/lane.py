"""Connections for packs and frames: HTTP/1.1 on blocking TLS sockets, without copies of bodies.

The TLS hello offers the data protocol beside plain HTTP; the same calls work on either. A body is
sent when the server has read the head and said to go on, so a pack that is refused costs nothing.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from holdfast import alpn
from holdfast.errors import StoreUnavailableError
from holdfast.ports.object_store import Buffer
from holdfast.workloads.transport import Pace

log = logging.getLogger("holdfast.agent")
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 180.0
SEND_BYTES = 1024 * 1024
MAX_HEAD = 64 * 1024
MAX_ANSWER = 1024 * 1024 * 1024
KEPT = 8
CONTINUE = 100


class LaneError(StoreUnavailableError):
    """A call got no answer, or none that can be read. ``unheard``: an old connection was dead
    before the server said anything; a new one may serve."""

    def __init__(self, why: str, *, unheard: bool = False) -> None:
        super().__init__(why, code="ServerUnreachable")
        self.unheard = unheard


@dataclass(frozen=True, slots=True)
class LaneAnswer:
    """Names of headers are lower case."""

    status_code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Buffer = b""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300


class Lane:
    """Thread safe: each call has a connection to itself; a few are kept for the next ones."""

    def __init__(self, server: str, context: ssl.SSLContext, headers: Mapping[str, str]) -> None:
        parts = urlsplit(server)
        self._address = parts.hostname or "", parts.port or 443
        self._prefix = parts.path.rstrip("/")
        self._context = context
        self._context.set_alpn_protocols([alpn.DATA, alpn.HTTP])
        self._headers = {"Host": parts.netloc, **headers}
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: memoryview | None,
        pace: Pace | None = None,
        room: memoryview | None = None,
    ) -> LaneAnswer:
        """One call; ``pace`` is told the bytes of each piece of the body before it is sent, and may
        wait. A content that fits lies in ``room``. LaneError."""
        head = {**self._headers, **headers}
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = _Connection(self._address, self._context)
            try:
                path = self._prefix + target
                answer = self._ask(connection, method, path, head, body, pace, room)
            except LaneError as error:
                if error.unheard:
                    continue
                raise
            return answer

    def _ask(
        self,
        connection: _Connection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: memoryview | None,
        pace: Pace | None,
        room: memoryview | None,
    ) -> LaneAnswer:
        try:
            answer = connection.ask(method, target, headers, body, pace, room)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            keep = connection.is_clean and len(self._idle) < KEPT
            if keep:
                self._idle.append(connection)
        if not keep:
            connection.close()
        return answer

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class _Connection:
    """One TLS connection. ``is_clean``: another call may follow."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        try:
            plain = socket.create_connection(address, CONNECT_SECONDS)
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sock = context.wrap_socket(plain, server_hostname=address[0])
            except BaseException:
                plain.close()
                raise
        except OSError as error:
            raise LaneError(str(error) or type(error).__name__) from error
        self._sock.settimeout(ANSWER_SECONDS)
        self._held = b""
        self._calls = 0
        self.is_clean = True

    def close(self) -> None:
        with suppress(OSError):
            self._sock.close()

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: memoryview | None,
        pace: Pace | None,
        room: memoryview | None,
    ) -> LaneAnswer:
        """LaneError; the connection is of no use after one."""
        self._calls += 1
        self.is_clean = False
        if body is not None:
            headers = {**headers, "Content-Length": str(len(body)), "Expect": "100-continue"}
        lines = [f"{method} {target} HTTP/1.1", *(f"{a}: {b}" for a, b in headers.items())]
        try:
            status, told = self._begin("\r\n".join([*lines, "", ""]).encode("latin-1"))
            goes_on = status == CONTINUE
            if goes_on and body is not None:
                self._send(body, pace)
            while status == CONTINUE:
                status, told = self._head()
            content = self._content(told, room)
        except OSError as error:
            raise LaneError(str(error) or type(error).__name__) from error
        self.is_clean = told.get("connection") != "close" and (body is None or goes_on)
        return LaneAnswer(status, told, content)

    def _begin(self, head: bytes) -> tuple[int, dict[str, str]]:
        """Send a request's head; the first that is answered."""
        try:
            self._sock.sendall(head)
            return self._head()
        except TimeoutError:
            raise
        except OSError as error:
            raise LaneError(str(error), unheard=self._calls > 1) from error

    def _send(self, body: memoryview, pace: Pace | None) -> None:
        """A server that stops reading has answered."""
        try:
            for at in range(0, len(body), SEND_BYTES):
                piece = body[at : at + SEND_BYTES]
                if pace is not None:
                    pace(len(piece))
                self._sock.sendall(piece)
        except TimeoutError:
            raise
        except OSError as error:
            log.debug("a body was not taken whole: %s", error)

    def _head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of what comes next. ConnectionError at the end."""
        gathered = bytearray(self._held)
        while (end := gathered.find(b"\r\n\r\n")) < 0:
            piece = self._sock.recv(MAX_HEAD)
            if not piece:
                raise ConnectionResetError("the server ended the connection")
            gathered += piece
            if len(gathered) > 2 * MAX_HEAD:
                raise LaneError("the server's answer has no end")
        self._held = bytes(gathered[end + 4 :])
        return _read_head(gathered[:end].decode("latin-1"))

    def _content(self, told: Mapping[str, str], room: memoryview | None) -> Buffer:
        length = told.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_ANSWER:
            raise LaneError("the server's answer has no length that can be")
        size = int(length)
        fits = room is not None and size <= len(room)
        content: Buffer = room[:size] if room is not None and fits else bytearray(size)
        view = memoryview(content)
        at = min(len(self._held), size)
        view[:at], self._held = self._held[:at], self._held[at:]
        while at < size:
            count = self._sock.recv_into(view[at:])
            if not count:
                raise ConnectionResetError("the server's answer was cut off")
            at += count
        return content


def _read_head(text: str) -> tuple[int, dict[str, str]]:
    first, *lines = text.split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise LaneError("the server's answer is no HTTP")
    pairs = (line.partition(":") for line in lines)
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}
