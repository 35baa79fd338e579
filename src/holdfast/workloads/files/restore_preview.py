"""A dry run: what a restore would do, with nothing written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from holdfast.errors import TargetError
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.workloads.files.paths import Folder, TargetTree
from holdfast.workloads.files.restore_names import Case, NameChooser
from holdfast.workloads.files.restore_plan import RestorePlan, Selection
from holdfast.workloads.files.restore_progress import RestoreProgress
from holdfast.workloads.packing import stop_if

MAX_SHOWN = 1000
_WORDS = {
    Case.NEW: "write",
    Case.REPLACES: "overwrite",
    Case.BESIDE: "keep-both",
    Case.KEPT: "skip",
    Case.ALREADY: "skip",
}
Shown = tuple[tuple[str, bytes], ...]


class Preview:
    """Counts into ``progress`` as the restore would."""

    def __init__(self, plan: RestorePlan, names: NameChooser, progress: RestoreProgress) -> None:
        self._plan = plan
        self._names = names
        self._progress = progress
        self._shown: list[tuple[str, bytes]] = []

    def look(self, selection: Selection, cancelled: Callable[[], bool]) -> Shown:
        """What would happen to which path; the first MAX_SHOWN."""
        target: TargetTree | None = None
        with suppress(TargetError):  # an absent target holds nothing
            target = TargetTree(self._plan.place, read_only=True)
        try:
            for path, entries in selection.runs():
                stop_if(cancelled)
                folder = self._folder(target, path)
                for entry in entries:
                    self._entry(folder, path, entry)
                if target is not None:
                    target.release_old()
        finally:
            if target is not None:
                target.close()
        return tuple(self._shown)

    @staticmethod
    def _folder(target: TargetTree | None, path: bytes) -> Folder | None:
        if target is None:
            return None
        try:
            return target.directory(path, create=False)
        except OSError:
            return None

    def _entry(self, folder: Folder | None, path: bytes, entry: Entry) -> None:
        if entry.type == EntryType.DIRECTORY:
            self._progress.directories += 1
            return
        case = Case.NEW if folder is None else self._names.choose(folder, entry).case
        if len(self._shown) < MAX_SHOWN:
            full = path + b"/" + entry.name if path else entry.name
            self._shown.append((_WORDS[case], full))
        if case in (Case.KEPT, Case.ALREADY):
            self._progress.skipped_files += 1
            return
        self._progress.replaced_files += case is Case.REPLACES
        self._progress.beside_files += case is Case.BESIDE
        self._progress.add(1, entry.size)
