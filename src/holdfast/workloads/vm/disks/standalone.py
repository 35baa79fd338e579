"""A machine's point from a vault's folder and its key alone: disks as raw files, and what it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import CancelledError, TargetError
from holdfast.ports.key_vault import KeyVault, Secret
from holdfast.vaultstore.reader import VaultReader
from holdfast.vaultstore.values import RecoveryPointRecord
from holdfast.workloads.files.standalone import ReaderSource
from holdfast.workloads.vm.disks.disks_journal import DisksJournal
from holdfast.workloads.vm.disks.keys import holds_keys, read_keys
from holdfast.workloads.vm.disks.point import MachinePoint, is_machine
from holdfast.workloads.vm.disks.raw_file import RawFileTarget
from holdfast.workloads.vm.disks.restore import DiskRestore
from holdfast.workloads.vm.disks.values import MACHINE_STREAM, Progress, stream_name


@dataclass(frozen=True, slots=True)
class RestoredMachine:
    """Files made; bytes of the disks, and of data written to them."""

    files: tuple[Path, ...]
    size: int
    data_bytes: int


def holds_machine(reader: VaultReader, record: RecoveryPointRecord) -> bool:
    """Whether a point is one of a machine's disks. IntegrityError."""
    return is_machine(reader.root(record.rp_id))


def restore_machine(
    reader: VaultReader,
    record: RecoveryPointRecord,
    target: Path,
    luns: Sequence[int] = (),
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RestoredMachine:
    """Restore all disks, or some, as ``disk-LUN.raw`` beside ``machine.json`` in ``target``. Each
    file appears when it is whole and durable. Started again after it was cancelled, it goes on
    where it was; after a kill, with the disk it was at (``disks_journal``). TargetError
    (FileExists, DiskUnwritable), NotFoundError (DiskNotFound), IntegrityError, CancelledError."""
    point = MachinePoint(ReaderSource(reader, record))
    chosen = list(dict.fromkeys(luns)) or [disk.lun for disk in point.disks]
    sizes = {lun: point.open(lun).geometry.size for lun in chosen}
    _make_folder(target)
    progress = progress or Progress()
    progress.total_bytes = sum(sizes.values())
    journal = DisksJournal.load(target / f".holdfast-restore-{record.rp_id}")
    work = _Disks(point, target, journal, progress, cancelled)
    made = [work.restore(lun, size) for lun, size in sizes.items()]
    description = point.description()
    if description:
        made.append(_write(_free(target / MACHINE_STREAM), description))
    journal.remove()
    return RestoredMachine(tuple(made), sum(sizes.values()), sum(journal.done.values()))


def restore_keys(
    reader: VaultReader, record: RecoveryPointRecord, vault: KeyVault
) -> tuple[Secret, ...]:
    """Put the keys of encrypted volumes a point holds into a key vault; none when it holds none.
    IntegrityError (MachineKeysDamaged, ...), and what the key vault raises."""
    root = reader.root(record.rp_id)
    if not holds_keys(root):
        return ()
    key, vault_id = reader.keys_key(record.rp_id), reader.descriptor.ids.vault_id
    found = read_keys(root, lambda ids: reader.fetch(record.rp_id, ids), key, vault_id)
    return tuple(vault.put(one.name, one.value, one.version) for one in found)


class _Disks:
    """The disks of one restore, one after another."""

    def __init__(
        self,
        point: MachinePoint,
        target: Path,
        journal: DisksJournal,
        progress: Progress,
        cancelled: Callable[[], bool],
    ) -> None:
        self._point, self._target, self._journal = point, target, journal
        self._progress, self._cancelled = progress, cancelled

    def restore(self, lun: int, size: int) -> Path:
        path = self._target / f"{stream_name(lun)}.raw"
        if lun in self._journal.done and path.exists():
            self._progress.done_bytes += size
            return path
        _free(path)
        part = path.with_name(f".{path.name}.part")
        start, written = self._journal.reached(lun) if part.exists() else (0, 0)
        if not start:
            part.unlink(missing_ok=True)
        image = RawFileTarget(part, size, new=not start)
        try:
            written += self._write(image, lun, start, written)
        except CancelledError:
            raise
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            image.close()
        _publish(part, path)
        self._journal.end(lun, written)
        return path

    def _write(self, image: RawFileTarget, lun: int, start: int, written: int) -> int:
        """Bytes of data written now, on top of what was ``written`` before."""
        self._progress.done_bytes += start
        run = DiskRestore(
            self._point,
            lun,
            image,
            start=start,
            progress=self._progress,
            cancelled=self._cancelled,
        )
        try:
            return run.run().data_bytes
        except CancelledError:
            image.flush()
            self._journal.stop(lun, run.reached, written + run.data_bytes)
            raise


def _write(path: Path, data: bytes) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error
    _publish(part, path)
    return path


def _publish(part: Path, path: Path) -> None:
    try:
        part.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _unwritable(path, error) from error


def _make_folder(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(target, error) from error


def _free(path: Path) -> Path:
    """TargetError (FileExists): nothing is overwritten."""
    if path.exists() or path.is_symlink():
        raise TargetError(
            f"{path} exists", code="FileExists", hint="give a folder without restored disks"
        )
    return path


def _unwritable(path: Path, error: OSError) -> TargetError:
    return TargetError(
        f"{path} cannot be written: {error.strerror}",
        code="DiskUnwritable",
        hint="check the folder, its permissions and its room",
    )
