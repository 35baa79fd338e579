"""The two calls of the data lane: receive a pack, send frames of one.

A pack's bytes are decrypted into one buffer at the border of a memory page, hashed there, and
written to the disk from there.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import msgspec

from holdfast.arm.agent_bodies import ReceiptReply, pack_id_of, parse_frames
from holdfast.arm.guard import AGENT_ACTION
from holdfast.arm.lane.wire import Body, Head
from holdfast.arm.receiving import pack_size, too_many_uploads
from holdfast.catalog.containers import AgentRow
from holdfast.errors import NotFoundError, UsageError
from holdfast.identity.authority import Principal
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.agents import calling_agent
from holdfast.services.platform import Platform

BUFFER_BYTES = 1024 * 1024  # what stays in a core's cache between decrypting, hashing and writing
_PACK = re.compile(
    "/providers/holdfast.backup/agents/([^/]+)/sessions/([^/]+)/packs/([^/]+)/?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class PackPath:
    """Which pack a request is about."""

    agent_id: str
    session_id: str
    pack_id: str


def pack_path(head: Head) -> PackPath:
    """NotFoundError (InvalidResourceType), UsageError (MethodNotAllowed)."""
    found = _PACK.fullmatch(head.path)
    if found is None:
        raise NotFoundError(
            f"The address '{head.path[:500]}' is not served on a data connection.",
            code="InvalidResourceType",
            hint="only packs are; use an agent of the server's version",
        )
    if head.method not in ("GET", "PUT"):
        raise UsageError(
            f"{head.method} is not served at '{head.path[:500]}'",
            code="MethodNotAllowed",
            hint="GET /openapi.json lists what is served",
        )
    return PackPath(*found.groups())


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call answers with status 200: ``size`` bytes of ``pieces``."""

    media_type: str
    size: int
    pieces: Iterator[bytes]


class PackCalls:
    """The calls of one connection, and its buffer."""

    def __init__(self, platform: Platform, desk: AgentDesk) -> None:
        self._platform = platform
        self._desk = desk

    @cached_property
    def buffer(self) -> memoryview:
        return memoryview(mmap.mmap(-1, BUFFER_BYTES))

    def agent(self, principal: Principal, head: Head, path: PackPath) -> AgentRow:
        """The calling agent. AccessError, AuthenticationError (AgentRevoked)."""
        principal.check(AGENT_ACTION, head.path)
        return calling_agent(self._platform.catalog, principal, path.agent_id)

    def perform(self, agent: AgentRow, head: Head, path: PackPath, body: Body) -> Reply:
        """What ``AgentData`` and ``PackReceiver`` raise, and the errors of bad calls."""
        if head.method == "PUT":
            return self._put(agent, path, body)
        frames = parse_frames(head.parameter("frames"))
        pack_id = pack_id_of(path.pack_id)
        found = self._desk.data.read_frames(agent, path.session_id, pack_id, frames)
        first = next(found.pieces, b"")
        return Reply("application/octet-stream", found.size, _again(first, found.pieces))

    def _put(self, agent: AgentRow, path: PackPath, body: Body) -> Reply:
        if not self._desk.uploads.acquire(blocking=False):
            raise too_many_uploads()
        try:
            receipt = self._receive(agent, path, body)
        finally:
            self._desk.uploads.release()
        content = msgspec.msgpack.encode(ReceiptReply(receipt=receipt))
        return Reply("application/msgpack", len(content), iter([content]))

    def _receive(self, agent: AgentRow, path: PackPath, body: Body) -> bytes:
        size = pack_size(str(body.size))
        pack_id = pack_id_of(path.pack_id)
        upload = self._desk.data.start_pack(agent, path.session_id, pack_id, size)
        receiver = upload.receiver
        try:
            body.begin()
            while piece := body.next(self.buffer):
                receiver.write(piece)
            receipt = receiver.finish()
        finally:
            receiver.abort()
        upload.done()
        return receipt


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
