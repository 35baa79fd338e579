"""Requests on a TLS connection: read in any pieces, given up when the client dawdles."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast.adapters.clock import SystemClock
from holdfast.arm.lane import wire
from holdfast.arm.lane.wire import Stream, read_head
from holdfast.errors import UsageError
from holdfast.identity.certificates import ensure_certificate, server_names

HEAD = (
    b"PUT /a%20b?frames=1-3&x= HTTP/1.1\r\nHost: h\r\n"
    b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of a TLS connection: the server's and the client's."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(ensure_certificate(tmp_path, server_names("127.0.0.1", ()), SystemClock()))
    theirs = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    left, right = socket.socketpair()
    made: list[ssl.SSLSocket] = []
    greeting = threading.Thread(
        target=lambda: made.append(ours.wrap_socket(left, server_side=True))
    )
    greeting.start()
    client = theirs.wrap_socket(right, server_hostname="127.0.0.1")
    greeting.join()
    with made[0], client:
        yield made[0], client


def test_a_request_is_read_from_any_pieces(pair: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    server, client = pair
    for piece in (HEAD[:10], HEAD[10:-1], HEAD[-1:] + b"body", b" and", HEAD):
        client.sendall(piece)
    stream = Stream(server)
    head = read_head(stream.head())
    assert (head.method, head.path, head.parameter("frames")) == ("PUT", "/a b", "1-3")
    body = head.body(stream)
    body.begin()
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    buffer = memoryview(bytearray(5))
    assert [bytes(body.next(buffer)) for _ in range(3)] == [b"body ", b"and" + HEAD[:1], b""]
    client.close()
    with pytest.raises(UsageError, match="cannot be read"):
        read_head(stream.head())  # the body was announced a byte too long
    assert stream.head() == b""


def test_a_head_that_does_not_end_in_time_is_given_up(
    pair: tuple[ssl.SSLSocket, ssl.SSLSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = pair
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    with pytest.raises(TimeoutError):
        Stream(server).head()
    client.sendall(HEAD[:-1])
    with pytest.raises(TimeoutError):
        Stream(server).head()


def test_a_head_without_end_is_refused(pair: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    server, client = pair

    def send() -> None:
        with suppress(OSError):  # it may be hung up on before its end
            client.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 99_000)

    sending = threading.Thread(target=send)
    sending.start()
    with pytest.raises(UsageError, match="too long"):
        Stream(server).head()
    server.close()
    sending.join()


def test_a_body_that_drips_is_given_up(
    pair: tuple[ssl.SSLSocket, ssl.SSLSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = pair
    client.sendall(b"x")
    with pytest.raises(TimeoutError, match="in time"):
        Stream(server).fill(memoryview(bytearray(10)), time.monotonic() - 1)
    monkeypatch.setattr(wire, "SILENT_SECONDS", 0.2)
    with pytest.raises(TimeoutError):
        Stream(server).fill(memoryview(bytearray(10)), time.monotonic() + 100)


def test_a_client_that_goes_is_noticed(pair: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    server, client = pair
    client.sendall(b"x")
    client.close()
    with pytest.raises(ConnectionResetError):
        Stream(server).fill(memoryview(bytearray(10)), time.monotonic() + 100)


BAD = [
    b"\r\n\r\n",
    b"PUT\r\n\r\n",
    b"GET / HTTP/9.x\r\n\r\n",
    b"GET / HTTP/1.1\r\nx\r\n\r\n",
    b"GET /?" + b"a=1&" * 99 + b" HTTP/1.1\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\n\r\n",
    b"\x00\xff\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        read_head(data)
    assert caught.value.code == "InvalidRequestContent"
