"""The memory that running programs took at their peak, with the helpers they start and end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK_SECONDS = 0.02


class PeakMemory:
    """The peaks of these processes and of all that they start, by process id, in bytes."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self.peaks: dict[int, int] = {}

    @property
    def total(self) -> int:
        """Of all processes together, as if their peaks had fallen on one moment."""
        return sum(self.peaks.values())

    def look(self) -> None:
        for root in self._roots:
            started = [pid for pid in children_of(root) if words_of(pid) != words_of(root)]
            for pid in [root, *started]:
                self.peaks[pid] = max(self.peaks.get(pid, 0), peak_of(pid))


def children_of(pid: int) -> list[int]:
    """The processes that ``pid`` started and that run."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (task / "children").read_text().split())
    return found


def words_of(pid: int) -> bytes:
    """How a process was called. One that was forked a moment ago has its parent's, and its parent's
    memory, until it is the program it was started for."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def peak_of(pid: int) -> int:
    """0 for a process that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@contextmanager
def watched(*roots: int) -> Iterator[PeakMemory]:
    """Looks at the processes until the block ends."""
    memory, over = PeakMemory(roots), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            memory.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()
        memory.look()
