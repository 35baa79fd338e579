"""Noticing that two processes run under one agent's identity: a copied folder, a cloned machine."""

from __future__ import annotations

import threading
from collections import deque

from holdfast.errors import AccessError

REMEMBERED = 16


class AgentCopies:
    """Every start of an agent names itself anew. A restart replaces the name before it for good; a
    name that comes back after another was heard belongs to a second process. In memory and of this
    server only: that no task is done by both is kept by fences. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: dict[str, str] = {}
        self._past: dict[str, deque[str]] = {}

    def arrive(self, agent_id: str, host: str, instance: str) -> bool:
        """Note who calls; whether it took over from another process. AccessError (AgentCopied) for
        one that was taken over from. An agent without a name is let through."""
        if not instance:
            return False
        with self._lock:
            past = self._past.setdefault(agent_id, deque(maxlen=REMEMBERED))
            if instance in past:
                raise AccessError(
                    f"another process took over as the agent of {host}",
                    code="AgentCopied",
                    hint="one agent may run once: where its folder was copied or its machine was "
                    "cloned, enrol the copy under a name of its own (holdfast agent enroll --name)",
                    retry="never",
                )
            before = self._current.get(agent_id)
            self._current[agent_id] = instance
            if before is None or before == instance:
                return False
            past.append(before)
            return True
