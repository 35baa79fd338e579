"""How far a restore is: windows whose files are written and synced. It never claims more.

One line per finished window, appended after the file systems were synced, and synced itself. A
restore started again with the same request skips the windows listed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class RestoreJournal:
    """``path``: None keeps no journal (nothing can be resumed)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.done: set[int] = set()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                lines = path.read_text().split("\n")[:-1]  # an unfinished line does not count
                self.done = {int(line) for line in lines if line.isdigit()}
            self._file = path.open("a")

    @property
    def resumed(self) -> bool:
        return bool(self.done) or (self._path is not None and self._path.stat().st_size > 0)

    def begin(self) -> None:
        """Mark that a run began, so that the next one knows of it without a finished window."""
        self._append("begun")

    def finish_windows(self, numbers: list[int]) -> None:
        """These windows are written and synced."""
        if numbers:
            self._append("\n".join(map(str, numbers)))
            self.done.update(numbers)

    def _append(self, line: str) -> None:
        if self._path is not None:
            self._file.write(line + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self, *, delete: bool) -> None:
        """``delete`` when the restore is complete."""
        if self._path is not None:
            self._file.close()
            if delete:
                self._path.unlink(missing_ok=True)
