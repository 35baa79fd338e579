"""The threads of the data lane: one per connection, as many as there is room for."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time

from prometheus_client import Gauge

from holdfast.arm.lane.exchange import Exchange
from holdfast.arm.lane.packs import PackCalls
from holdfast.arm.lane.wire import HEAD_SECONDS, Stream
from holdfast.errors import HoldfastError
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.platform import Platform

log = logging.getLogger("holdfast.server")
connections_gauge = Gauge("holdfast_data_connections", "Connections of agents for packs and frames")


class _Connection:
    """One client, served until it goes, dawdles or is hung up on."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.settimeout(HEAD_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.is_busy = False
        self.is_leaving = False

    def serve(self, platform: Platform, desk: AgentDesk) -> None:
        try:
            self._sock.do_handshake()
            stream = Stream(self._sock)
            calls = PackCalls(platform, desk)
            going_on = True
            while going_on and not self.is_leaving and (data := _head(stream)):
                self.is_busy = True
                going_on = Exchange(platform, calls, stream).perform(data)
                self.is_busy = False
        except OSError as error:  # TimeoutError, ConnectionError and ssl.SSLError too
            log.debug("a data connection ended: %s", error)
        finally:
            self._sock.close()

    def hang_up(self) -> None:
        """Wake the thread wherever it waits for its client."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            log.debug("a data connection was gone already")


def _head(stream: Stream) -> bytes | HoldfastError:
    try:
        return stream.head()
    except HoldfastError as error:
        return error


class DataLane:
    """Thread safe. ``most``: connections served at a time."""

    def __init__(
        self, platform: Platform, desk: AgentDesk, context: ssl.SSLContext, most: int
    ) -> None:
        self._platform = platform
        self._desk = desk
        self._context = context
        self._most = most
        self._lock = threading.Lock()
        self._threads: dict[_Connection, threading.Thread] = {}
        self._closing = False

    def take(self, sock: socket.socket) -> bool:
        """Serve an accepted connection; False when there is no room, and it is the caller's."""
        with self._lock:
            if self._closing or len(self._threads) >= self._most:
                return False
            connection = _Connection(sock, self._context)
            thread = threading.Thread(
                target=self._run, args=(connection,), name="holdfast-lane", daemon=True
            )
            thread.start()  # it waits for the lock before it forgets itself
            self._threads[connection] = thread
            connections_gauge.set(len(self._threads))
        return True

    def _run(self, connection: _Connection) -> None:
        try:
            connection.serve(self._platform, self._desk)
        finally:
            with self._lock:
                del self._threads[connection]
                connections_gauge.set(len(self._threads))

    def close(self, seconds: float) -> None:
        """Take no more, end what is idle, give the others ``seconds`` to finish their request."""
        with self._lock:
            self._closing = True
            threads = dict(self._threads)
        give_up = time.monotonic() + seconds
        for connection in threads:
            connection.is_leaving = True
            if not connection.is_busy:
                connection.hang_up()
        for connection, thread in threads.items():
            thread.join(max(give_up - time.monotonic(), 0))
            if thread.is_alive():
                connection.hang_up()
        for thread in threads.values():
            thread.join(1.0)
