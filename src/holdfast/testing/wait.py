"""Waiting for an outcome of real processes: poll until it is there or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(
    holds: Callable[[], object], what: str, *, seconds: float = 60.0, every: float = 0.1
) -> None:
    """Return as soon as ``holds()`` is true; AssertionError naming ``what`` after ``seconds``."""
    give_up = time.monotonic() + seconds
    while True:
        if holds():
            return
        if time.monotonic() > give_up:
            raise AssertionError(f"did not happen within {seconds:.0f} s: {what}")
        time.sleep(every)
