"""Named points at which a recovery test may kill this process, as a power cut would.

``reach(name)`` does nothing unless ``arm`` was called, which programs do only under ``--test-mode``
with HOLDFAST_TEST_CRASH set to ``NAME@N``: the process then kills itself with SIGKILL when NAME is
reached for the Nth time. With HOLDFAST_TEST_CRASH_LOG=FILE every reached name is appended to FILE,
so that a test can learn how many points a job has and prove that a kill hit a running one.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from typing import ClassVar

_lock = threading.Lock()


class _State:
    armed: tuple[str, int] | None = None
    log: int | None = None
    seen: ClassVar[dict[str, int]] = {}


def arm(environment: Mapping[str, str]) -> None:
    """Read the environment's wish; malformed wishes are ignored (test harness only)."""
    name, _, count = environment.get("HOLDFAST_TEST_CRASH", "").partition("@")
    if name and count.isdigit():
        _State.armed = (name, int(count))
    if path := environment.get("HOLDFAST_TEST_CRASH_LOG"):
        _State.log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def reach(name: str) -> None:
    """Note that the point ``name`` was reached; dies here when the test asked for it."""
    if _State.armed is None and _State.log is None:
        return
    with _lock:
        count = _State.seen[name] = _State.seen.get(name, 0) + 1
        if _State.log is not None:
            os.write(_State.log, f"{name}@{count}\n".encode())
        if _State.armed == (name, count):
            os.kill(os.getpid(), signal.SIGKILL)
