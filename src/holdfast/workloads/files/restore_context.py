"""What the windows of one restore share, and a file on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast.vaultstore.entries import Entry
from holdfast.vaultstore.ids import IdKeys
from holdfast.workloads.files.journal import RestoreJournal
from holdfast.workloads.files.paths import Folder, TargetTree
from holdfast.workloads.files.restore_content import EarlyRoom, GrowingFile
from holdfast.workloads.files.restore_fetch import ChunkSource
from holdfast.workloads.files.restore_folders import WaitingFolders
from holdfast.workloads.files.restore_links import LinkTable
from holdfast.workloads.files.restore_names import NameChooser
from holdfast.workloads.files.restore_plan import RestorePlan, Selection
from holdfast.workloads.files.restore_progress import RestoreProgress
from holdfast.workloads.files.restore_writer import EntryWriter, PathReport, fail
from holdfast.workloads.files.writer_helper import WriterHelper


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the windows of one restore share."""

    plan: RestorePlan
    selection: Selection
    source: ChunkSource
    keys: IdKeys
    target: TargetTree
    writer: EntryWriter
    helper: WriterHelper
    names: NameChooser
    waiting: WaitingFolders
    early: EarlyRoom
    links: LinkTable
    journal: RestoreJournal
    progress: RestoreProgress
    report: PathReport
    cancelled: Callable[[], bool]

    def failed(self, path: bytes, error: OSError, message: str = "") -> None:
        """Report what concerns one entry; raise what concerns the whole target."""
        try:
            fail(error, path)
        except OSError:
            self.report("NotRestored", path, message or error.strerror or str(error))


@dataclass(slots=True, eq=False)
class RestoredFile:
    """A file of a window. ``growing`` when it has several extents or begins with a hole."""

    folder: Folder
    name: bytes
    entry: Entry
    growing: GrowingFile | None = None
    failed: bool = False

    @property
    def path(self) -> bytes:
        return self.folder.path_of(self.name)
