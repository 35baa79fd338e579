"""Listing and restoring from a vault's folder with the exported key: no server, no catalog."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from holdfast.domain.names import friendly
from holdfast.errors import NotFoundError, UsageError
from holdfast.files import read_small
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.vaultstore.ids import IdKeys
from holdfast.vaultstore.reader import VaultReader
from holdfast.vaultstore.root import Finding
from holdfast.vaultstore.values import FrameLocation, RecoveryPointRecord, Unlock
from holdfast.workloads.files.paths import target_unusable
from holdfast.workloads.files.restore import (
    FilesRestore,
    RestorePlan,
    RestoreProgress,
    RestoreResult,
)

Row = dict[str, Any]
RUN_CHUNKS, PAGES_KEPT = 16, 64


def read_vault(store: ObjectStore, key: Path, passphrase: str) -> VaultReader:
    """Open the vault a key file belongs to. UsageError, AccessError, NotFoundError."""
    try:
        data = read_small(key)
    except OSError as error:
        raise UsageError(
            f"the key file {key} cannot be read: {error.strerror}",
            code="FileUnreadable",
            hint="check the path and its permissions",
        ) from error
    return VaultReader.open(store, Unlock(key_file=data, passphrase=passphrase))


def store_folder(path: Path) -> Path:
    """The folder of the store, from it or from the vault's own folder in it."""
    if not path.is_dir():
        raise NotFoundError(
            f"{path} is no folder",
            code="VaultStoreMissing",
            hint="give the vault's folder, or the one it lies in",
        )
    of_vault = (path / "descriptor").exists() or (path / "log").is_dir()
    return path.absolute().parent if of_vault else path.absolute()


def point_rows(reader: VaultReader) -> list[Row]:
    """Every recovery point, newest first."""
    rows = []
    for record in reversed(reader.recovery_points()):
        container, _, item = record.item_key.partition("/")
        rows.append(
            {
                "item": friendly(item),
                "container": friendly(container),
                "recoveryPoint": record.rp_id,
                "time": record.time.isoformat(),
                "logicalBytes": record.logical_bytes,
                "files": record.file_count,
                "findings": record.findings_count,
            }
        )
    return rows


def choose_point(reader: VaultReader, item: str, container: str, point: str) -> RecoveryPointRecord:
    """The record a user names. NotFoundError (ItemNotFound, RecoveryPointNotFound), UsageError
    (ItemAmbiguous) when several machines have the item."""
    keys = {
        key
        for key in reader.items()
        if friendly(key.partition("/")[2]) == friendly(item)
        and (not container or friendly(key.partition("/")[0]) == friendly(container))
    }
    if not keys:
        raise NotFoundError(
            f"the vault holds no item {item}",
            code="ItemNotFound",
            hint="see what it holds: holdfast store list",
        )
    if len(keys) > 1:
        raise UsageError(
            f"several machines have an item {item}",
            code="ItemAmbiguous",
            hint="say which: --container HOST",
        )
    records = reader.recovery_points(keys.pop())
    for record in reversed(records):
        if point in ("latest", record.rp_id):
            return record
    raise NotFoundError(
        f"{item} has no recovery point {point}",
        code="RecoveryPointNotFound",
        hint="see which there are: holdfast store list",
    )


class Fetcher(Protocol):
    """An opened vault that gives verified chunks of a point."""

    def fetch(self, rp_id: str, ids: Sequence[bytes]) -> list[Buffer]: ...


class PointSource:
    """Chunks of one recovery point through an opened vault, which verifies them. ``keys``: of what
    compares files with what is there."""

    def __init__(self, reader: Fetcher, record: RecoveryPointRecord, keys: IdKeys) -> None:
        self._reader = reader
        self._rp_id = record.rp_id
        self.root_id = record.root_id[:32]
        self.keys = keys
        self._pages: OrderedDict[bytes, Buffer] = OrderedDict()

    def locate(self, ids: Iterable[bytes]) -> list[FrameLocation]:
        """Locations that only name chunks; the reader knows where they lie."""
        return [named(chunk_id) for chunk_id in ids]

    def runs(self, rows: Iterable[FrameLocation]) -> Iterator[list[FrameLocation]]:
        wanted = list(rows)
        for start in range(0, len(wanted), RUN_CHUNKS):
            yield wanted[start : start + RUN_CHUNKS]

    def read_run(
        self, run: list[FrameLocation], take: Callable[[FrameLocation, Buffer], None]
    ) -> None:
        found = self._reader.fetch(self._rp_id, [row.id for row in run])
        for row, plain in zip(run, found, strict=True):
            take(row, plain)

    def sealed(self, run: list[FrameLocation]) -> None:
        """The reader opens chunks itself."""

    def pages(self, page_ids: Sequence[bytes]) -> list[Buffer]:
        return self._reader.fetch(self._rp_id, page_ids)

    def page(self, page_id: bytes) -> Buffer:
        if page_id not in self._pages:
            self._pages[page_id] = self._reader.fetch(self._rp_id, [page_id])[0]
            while len(self._pages) > PAGES_KEPT:
                self._pages.popitem(last=False)
        return self._pages[page_id]


class ReaderSource(PointSource):
    """The same, of a vault that is read without a server."""

    def __init__(self, reader: VaultReader, record: RecoveryPointRecord) -> None:
        super().__init__(reader, record, reader.id_keys)


def named(chunk_id: bytes) -> FrameLocation:
    """A location that only names a chunk."""
    return FrameLocation(
        id=chunk_id,
        pack=b"",
        frame=0,
        offset=0,
        clen=0,
        ulen=0,
        codec=0,
        flags=0,
        kind=0,
        birth_header_hash=b"",
        birth_frame=0,
        key=b"",
    )


def restore_point(
    reader: VaultReader,
    item: str,
    container: str,
    point: str,
    target: Path,
    paths: Sequence[str] = (),
    *,
    progress: RestoreProgress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[RestoreResult, tuple[Finding, ...]]:
    """Restore a recovery point into ``target``; files at TARGET/<source path>. An interrupted
    restore of the same point and paths goes on where it was: its journal is a hidden file in
    ``target`` until it is complete. ``progress`` is kept up to date. NotFoundError, UsageError,
    TargetError, IntegrityError, CancelledError."""
    record = choose_point(reader, item, container, point)
    plan = RestorePlan(target=target.absolute(), paths=paths)
    journal = plan.place / f".holdfast-restore-{record.rp_id}"
    try:
        plan.place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise target_unusable(plan.place, error) from error
    run = FilesRestore(plan, ReaderSource(reader, record), journal, cancelled=cancelled)
    run.progress = progress or run.progress
    return run.run(), run.findings.all()
