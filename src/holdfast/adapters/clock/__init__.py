"""The machine's time and randomness, and a clock a test moves."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from holdfast.errors import UsageError
from holdfast.ports.clock import Clock


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(tz=UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class FileClock:
    """Reads the time from a file (ISO-8601, with offset) at every call; test mode only.

    Time moved forward counts as time that passed, so ``monotonic`` follows the file ahead and the
    machine's monotonic clock otherwise.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = self.now()
        self._highest = 0.0
        self._began = time.monotonic()

    def now(self) -> datetime:
        try:
            found = datetime.fromisoformat(self._path.read_text().strip())
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the test clock {self._path} cannot be read: {error}",
                code="TestClockInvalid",
                hint="write one ISO-8601 time with an offset into it",
            ) from error
        return found.astimezone(UTC)

    def monotonic(self) -> float:
        moved = (self.now() - self._start).total_seconds()
        self._highest = max(self._highest, moved)
        return self._highest + (time.monotonic() - self._began)


class SystemRandom:
    """The kernel's randomness."""

    def token(self, count: int) -> bytes:
        return os.urandom(count)


def choose_clock(environment: Mapping[str, str], *, test_mode: bool) -> Clock:
    """The system clock; under test mode with HOLDFAST_TEST_CLOCK=FILE that file's."""
    path = environment.get("HOLDFAST_TEST_CLOCK")
    return FileClock(Path(path)) if test_mode and path else SystemClock()
