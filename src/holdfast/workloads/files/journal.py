"""How far a restore is: windows whose files are written and synced. It never claims more.

A text file, only appended to. The first line names the request; a journal of another request is
begun anew. ``w N``: window N is done, written after its file systems were synced, and synced
itself. ``d HEX``: a folder this restore is about to make, so that a later run knows it as ours. A
restore started again with the same request skips the windows listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_MAGIC = "holdfast-restore-1"


class RestoreJournal:
    """``path`` None keeps no journal: nothing can be resumed. ``request``: what identifies it.
    ``resumed``: an earlier run of this request was interrupted."""

    def __init__(self, path: Path | None, request: str) -> None:
        self._path = path
        self.done: set[int] = set()
        self._folders: set[bytes] = set()
        self.resumed = False
        self._fd = -1
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        head = f"{_MAGIC} {request}"
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # a line that was cut off does not count
        lines = whole.decode(errors="replace").split("\n")
        self.resumed = lines[0] == head
        if self.resumed:
            os.ftruncate(self._fd, len(whole))
            self._read(lines[1:])
        else:
            os.ftruncate(self._fd, 0)
            self._append(head)
            os.fsync(self._fd)

    def _read(self, lines: list[str]) -> None:
        for line in lines:
            kind, _, value = line.partition(" ")
            if kind == "w" and value.isdigit():
                self.done.add(int(value))
            elif kind == "d":
                self._folders.add(bytes.fromhex(value))

    def will_make(self, folders: Iterable[bytes]) -> None:
        """These folders are about to be made by this restore."""
        if self._fd >= 0 and (rows := [f"d {path.hex()}" for path in folders]):
            self._append("\n".join(rows))

    def made(self, folder: bytes) -> bool:
        """Whether an interrupted run made this folder."""
        return folder in self._folders

    def finish_windows(self, numbers: list[int]) -> None:
        """These windows are written and synced."""
        if self._fd >= 0 and numbers:
            self._append("\n".join(f"w {number}" for number in numbers))
            os.fsync(self._fd)

    def _append(self, line: str) -> None:
        data = memoryview(line.encode() + b"\n")
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self, *, delete: bool) -> None:
        """``delete`` when the restore is complete."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if delete and self._path is not None:
                self._path.unlink(missing_ok=True)
