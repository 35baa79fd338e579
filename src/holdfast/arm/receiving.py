"""Receiving a pack: the event loop gathers a piece while a thread hashes and writes the last one.

At most two pieces of a pack are in memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Response

from holdfast.arm.errors import error_body
from holdfast.arm.http import ArmRequest
from holdfast.catalog.containers import AgentRow
from holdfast.errors import LimitError, UsageError
from holdfast.services.agent_desk import AgentDesk
from holdfast.vaultstore.vault import PackReceiver

PIECE_BYTES = 1024 * 1024
MAX_PACK_BYTES = 256 * 1024 * 1024
RETRY_SECONDS = 1


async def receive_pack(
    request: ArmRequest, desk: AgentDesk, agent: AgentRow, session_id: str, pack_id: bytes
) -> bytes:
    """The receipt of a pack that is whole, checked and durable. UsageError (LengthRequired),
    LimitError (RequestTooLarge), and what ``PackReceiver`` raises; nothing is kept then."""
    size = _announced(request)
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


def _announced(request: ArmRequest) -> int:
    declared = request.headers.get("content-length", "")
    if not declared.isdigit():
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


def packs_limit_reached() -> Response[Any]:
    """429: this server receives as many packs as it may."""
    error = LimitError(
        "this server receives as many packs at a time as it may",
        code="TooManyUploads",
        hint="send the pack again in a second",
    )
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return Response(error_body(error), status_code=429, headers=headers)
