"""Waiting in an agent's long poll: for news, for its time, or for a caller that has gone."""

from __future__ import annotations

import asyncio

from holdfast.arm.http import ArmRequest
from holdfast.jobs.bell import Bell


async def rung_in_time(
    request: ArmRequest, bell: Bell, agent_id: str, listening: asyncio.Event, seconds: float
) -> bool:
    """Whether there is news for a caller that is still there. A task must not be handed to a
    connection that nobody reads: it would be an absent agent's until its lease ends."""
    rung = asyncio.ensure_future(bell.wait(agent_id, listening, seconds))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((rung, gone), return_when=asyncio.FIRST_COMPLETED)
        return not gone.done() and rung.result()
    finally:
        rung.cancel()
        gone.cancel()


async def _gone(request: ArmRequest) -> None:
    """Return when the caller has closed the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
