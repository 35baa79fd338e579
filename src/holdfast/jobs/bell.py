"""Waking the long polls of agents when there is news for them. In-process; thread safe."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable


class Bell:
    """One asyncio event per waiting call. Other servers' news arrive by the engine's tick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self.closed = False

    async def wait(self, agent_id: str, listening: asyncio.Event, seconds: float) -> bool:
        """Wait for a ring of ``listening`` (from ``listen``); whether it rang in time."""
        try:
            await asyncio.wait_for(listening.wait(), timeout=seconds)
        except TimeoutError:
            return False
        finally:
            self._forget(agent_id, listening)
        return True

    def listen(self, agent_id: str) -> asyncio.Event:
        """Start listening, before looking for work, so that no ring is missed."""
        event = asyncio.Event()
        if self.closed:
            event.set()
        with self._lock:
            waiting = self._waiting.setdefault(agent_id, set())
            waiting.add((asyncio.get_running_loop(), event))
        return event

    def _forget(self, agent_id: str, event: asyncio.Event) -> None:
        with self._lock:
            left = {entry for entry in self._waiting.get(agent_id, set()) if entry[1] is not event}
            if left:
                self._waiting[agent_id] = left
            else:
                self._waiting.pop(agent_id, None)

    def silence(self, agent_id: str, event: asyncio.Event) -> None:
        """Stop listening without waiting."""
        self._forget(agent_id, event)

    def ring(self, *agent_ids: str) -> None:
        """Wake these agents' calls; from any thread."""
        with self._lock:
            woken = [entry for agent in agent_ids for entry in self._waiting.get(agent, ())]
        for loop, event in woken:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """Wake everybody, and let nobody wait from now on: the server stops. May be called from a
        signal handler."""
        self.closed = True
        for waiting in list(self._waiting.values()):
            for loop, event in list(waiting):
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)

    def waiting(self) -> list[str]:
        """Agents with a call that waits here."""
        with self._lock:
            return list(self._waiting)

    def ring_any(self, agent_ids: Iterable[str]) -> None:
        """Wake those of ``agent_ids`` that wait here."""
        here = set(self.waiting())
        self.ring(*(agent for agent in agent_ids if agent in here))
