"""Receiving a pack: the event loop gathers a piece while a thread hashes and writes the last one.

At most two pieces of a pack are in memory.
"""

from __future__ import annotations

import asyncio

from holdfast.arm.http import ArmRequest
from holdfast.catalog.containers import AgentRow
from holdfast.errors import LimitError, UsageError
from holdfast.services.agent_desk import AgentDesk
from holdfast.vaultstore.vault import PackReceiver

PIECE_BYTES = 1024 * 1024
MAX_PACK_BYTES = 256 * 1024 * 1024


class TooManyUploadsError(LimitError):
    """Short, for a place is free as soon as another pack has arrived."""

    wait_seconds = 1


def too_many_uploads() -> LimitError:
    """This server receives as many packs as it may."""
    return TooManyUploadsError(
        "this server receives as many packs at a time as it may",
        code="TooManyUploads",
        hint="send the pack again in a second",
    )


async def receive_pack(
    request: ArmRequest, desk: AgentDesk, agent: AgentRow, session_id: str, pack_id: bytes
) -> bytes:
    """The receipt of a pack that is whole, checked and durable. UsageError (LengthRequired),
    LimitError (RequestTooLarge), and what ``PackReceiver`` raises; nothing is kept then."""
    size = pack_size(request.headers.get("content-length", ""))
    upload = await desk.run(desk.data.start_pack, agent, session_id, pack_id, size)
    receiver = upload.receiver
    try:
        await _pump(request, desk, receiver)
        receipt = await desk.run(receiver.finish)
    finally:
        await asyncio.shield(desk.run(receiver.abort))
    await desk.run(upload.done)
    return receipt


async def _pump(request: ArmRequest, desk: AgentDesk, receiver: PackReceiver) -> None:
    """Hand the body to ``receiver`` in pieces, writing one while the next is gathered."""
    writing: asyncio.Future[None] | None = None
    gathered: list[bytes] = []
    size = 0
    try:
        async for piece in request.stream():
            gathered.append(piece)
            size += len(piece)
            if size < PIECE_BYTES:
                continue
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(desk.run(_write, receiver, gathered))
            gathered, size = [], 0
    finally:
        if writing is not None:
            await asyncio.shield(writing)
    if gathered:
        await desk.run(_write, receiver, gathered)


def _write(receiver: PackReceiver, pieces: list[bytes]) -> None:
    receiver.write(b"".join(pieces))


def is_length(text: str) -> bool:
    """Whether a header names a number of bytes."""
    return text.isascii() and text.isdigit() and len(text) < 20


def pack_size(declared: str) -> int:
    """The length a pack is announced with. UsageError (LengthRequired), LimitError
    (RequestTooLarge)."""
    if not is_length(declared):
        raise UsageError(
            "a pack is sent with its length",
            code="LengthRequired",
            hint="send a Content-Length header",
        )
    size = int(declared)
    if size > MAX_PACK_BYTES:
        raise LimitError(
            f"a pack of {size} bytes is larger than {MAX_PACK_BYTES}",
            code="RequestTooLarge",
            retry="never",
        )
    return size
