"""Accepts the connections of the one port and sends each to the side that serves it.

A hello that offers the data protocol goes to the data lane, as long as that has room; everything
else goes to the API, which does its own handshake. The hello is only looked at, not taken.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from holdfast import alpn
from holdfast.arm.lane.hello import MAX_RECORD, RECORD_HEAD, offered

log = logging.getLogger("holdfast.server")
HELLO_SECONDS = 10.0
MORE_SECONDS = 0.02  # between two looks at a hello of which a part is there
EXHAUSTED_SECONDS = 1.0

ToLane = Callable[[socket.socket], bool]
ToApi = Callable[[socket.socket], Awaitable[object]]


class Door:
    """``to_lane`` says whether it took the connection; ``to_api`` takes any."""

    def __init__(self, listener: socket.socket, to_lane: ToLane, to_api: ToApi) -> None:
        self._listener = listener
        self._to_lane = to_lane
        self._to_api = to_api
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, backlog: int) -> None:
        """Listen, and accept in the running loop until ``close``."""
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._keep(self._accept())

    def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except ConnectionError:
                continue
            except OSError as error:
                log.error("no connection can be accepted: %s", error)
                await asyncio.sleep(EXHAUSTED_SECONDS)
                continue
            self._keep(self._admit(sock))

    async def _admit(self, sock: socket.socket) -> None:
        given = False
        try:
            sock.setblocking(False)
            async with asyncio.timeout(HELLO_SECONDS):
                names = await _peek(sock)
            given = alpn.DATA in names and self._to_lane(sock)
            if not given:
                await self._to_api(sock)
                given = True
        except OSError as error:  # a TimeoutError and an SSLError are ones too
            log.debug("a connection ended before its first request: %s", error)
        finally:
            if not given:
                sock.close()


async def _peek(sock: socket.socket) -> frozenset[str]:
    """What the hello offers. ConnectionError when the client goes before it was whole."""
    while True:
        await _readable(sock)
        data = sock.recv(RECORD_HEAD + MAX_RECORD, socket.MSG_PEEK)
        if not data:
            raise ConnectionResetError("the client went away")
        names = offered(data)
        if names is not None:
            return names
        await asyncio.sleep(MORE_SECONDS)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, tell)
    try:
        await ready
    finally:
        loop.remove_reader(sock)
