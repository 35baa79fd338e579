"""Whether a disk file holds what was read for it, as far as its format's own tables say.

``qemu-img convert`` ends well also when the last tables, which it writes when it closes the file,
could not be written: the data is in the file then, and the disk reads as zeros. So the pieces of
the source that were read and held something are noted, and the finished file is opened again and
asked what it has there: by its tables, or, where a format's tables cannot be asked (VHDX), by
reading a few pieces.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

PIECE_EXPONENT = 16  # no format has smaller units than QCOW2's clusters of 64 KiB
PIECE_BYTES = 1 << PIECE_EXPONENT


class HeldPieces:
    """Pieces of a disk that hold something, a bit each. Thread safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._bits = np.zeros((size >> PIECE_EXPONENT + 3) + 1, np.uint8)
        self._lock = threading.Lock()

    def note(self, offset: int, view: memoryview) -> None:
        """These bytes were read of the disk."""
        at = 0
        while at < len(view):
            piece = (offset + at) >> PIECE_EXPONENT
            end = min(len(view), ((piece + 1) << PIECE_EXPONENT) - offset)
            if np.frombuffer(view[at:end], np.uint8).any():
                with self._lock:
                    self._bits[piece >> 3] |= 1 << (piece & 7)
            at = end

    def one_in_each(self, step: int) -> Iterator[int]:
        """The offset of the first piece that was noted, of each ``step`` bytes that have one."""
        for start in range(0, self._size, step):
            found = self.first_in(start, min(start + step, self._size))
            if found is not None:
                yield found

    def first_in(self, start: int, end: int) -> int | None:
        """The offset of the first piece that was noted, of those wholly between two offsets."""
        low = -(-start >> PIECE_EXPONENT)
        high = end >> PIECE_EXPONENT if end < self._size else -(-end >> PIECE_EXPONENT)
        for byte in np.flatnonzero(self._bits[low >> 3 : (high + 7) >> 3]).tolist():
            first = ((low >> 3) + byte) << 3
            for piece in range(max(first, low), min(first + 8, high)):
                if self._bits[piece >> 3] >> (piece & 7) & 1:
                    return piece << PIECE_EXPONENT
        return None


class MapReader:
    """Takes the lines of ``qemu-img map --output=json``; ``lost``: where the file has nothing
    though the disk held something; ``end``: up to where it said what it has."""

    def __init__(self, held: HeldPieces) -> None:
        self._held = held
        self.lost: int | None = None
        self.end = 0

    def take(self, line: bytes) -> None:
        """One line, a run of the file. ValueError, KeyError."""
        text = line.strip().strip(b"[],")
        if not text:
            return
        run: dict[str, Any] = json.loads(text)
        start, self.end = int(run["start"]), int(run["start"]) + int(run["length"])
        if self.lost is None and (run["zero"] or not run["data"]):
            self.lost = self._held.first_in(start, self.end)
