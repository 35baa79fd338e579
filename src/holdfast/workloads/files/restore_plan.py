"""What a restore is to do: the chosen part of a tree, cut into windows of tree order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from blake3 import blake3

from holdfast.errors import NotFoundError
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.vaultstore.manifest_files import FileTree

Conflict = Literal["overwrite", "skip", "keep-both"]
Run = tuple[bytes, list[Entry]]
WINDOW_ENTRIES, WINDOW_BYTES, WINDOW_FOLDERS = 20_000, 512 * 1024 * 1024, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What to restore where. ``target`` None: the original place. ``paths``: absolute; none means
    everything. ``suffix``: of copies kept beside existing files. ``numeric``: owners by number,
    even where a name exists here under another one."""

    target: Path | None
    paths: Sequence[str] = ()
    conflict: Conflict = "overwrite"
    dry_run: bool = False
    suffix: str = ".restored"
    numeric: bool = False
    threads: int = 3

    @property
    def place(self) -> Path:
        return self.target or Path("/")

    def identity(self, root_id: bytes) -> str:
        """Equal for the same request on the same recovery point, however often it is started."""
        parts = [root_id.hex(), str(self.place), self.conflict, self.suffix, str(self.numeric)]
        parts += [str(WINDOW_ENTRIES), str(WINDOW_BYTES), *sorted(self.paths)]
        text = "\0".join(parts).encode(errors="surrogateescape")
        return blake3(text).hexdigest(length=16)


@dataclass(slots=True)
class Window:
    """Runs of entries handled together. ``size``: bytes of their content."""

    runs: list[Run] = field(default_factory=list)
    entries: int = 0
    size: int = 0

    @property
    def last_folder(self) -> bytes:
        return self.runs[-1][0]


class Selection:
    """The chosen part of a tree, with the folders that lead to it."""

    def __init__(self, tree: FileTree, paths: Sequence[str]) -> None:
        self._tree = tree
        self.paths = _outermost({_relative(path) for path in paths})
        self._everything = not self.paths or self.paths == [b""]

    @property
    def is_everything(self) -> bool:
        return self._everything

    def covers(self, path: bytes) -> bool:
        """Whether ``path`` itself was asked for, not only led through."""
        if self._everything:
            return True
        return any(path == one or path.startswith(one + b"/") for one in self.paths)

    def runs(self) -> Iterator[Run]:
        """(directory, entries) in tree order. NotFoundError (PathNotInRecoveryPoint)."""
        if self._everything:
            yield from self._tree.walk()
            return
        led: set[bytes] = set()
        for path in self.paths:
            found = self._tree.lookup(path)
            if found is None:
                raise _not_there(path)
            yield from self._lead(path, led)
            yield path.rpartition(b"/")[0], [found]
            if found.type == EntryType.DIRECTORY:
                yield from self._tree.walk(path)

    def _lead(self, path: bytes, led: set[bytes]) -> Iterator[Run]:
        """The folders above ``path``, each once."""
        parts = path.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            above = b"/".join(parts[:depth])
            if above not in led:
                led.add(above)
                found = self._tree.lookup(above)
                if found is not None:
                    yield above.rpartition(b"/")[0], [found]

    def check(self) -> None:
        """NotFoundError (PathNotInRecoveryPoint) before anything is written."""
        for path in self.paths:
            if path and self._tree.lookup(path) is None:
                raise _not_there(path)

    def windows(self, folders: int = WINDOW_FOLDERS) -> Iterator[Window]:
        """The same windows for the same selection and number of folders."""
        window = Window()
        for path, entries in self.runs():
            window.runs.append((path, entries))
            window.entries += len(entries)
            window.size += sum([entry.size for entry in entries if entry.extents])
            large = window.entries >= WINDOW_ENTRIES or window.size >= WINDOW_BYTES
            if large or len(window.runs) >= folders:
                yield window
                window = Window()
        if window.runs:
            yield window


def _relative(path: str) -> bytes:
    found = os.path.normpath(os.fsencode(path)).strip(b"/")
    return b"" if found == b"." else found


def _outermost(paths: set[bytes]) -> list[bytes]:
    """Without what lies below another one, in tree order."""
    kept: list[bytes] = []
    for path in sorted(paths, key=lambda one: one.replace(b"/", b"\0")):
        if not (kept and (not kept[-1] or path.startswith(kept[-1] + b"/"))):
            kept.append(path)
    return kept


def _not_there(path: bytes) -> NotFoundError:
    shown = os.fsdecode(b"/" + path)
    return NotFoundError(
        f"{shown} is not in the recovery point",
        code="PathNotInRecoveryPoint",
        hint="look with: holdfast recovery-point browse",
        target=shown,
    )
