"""The port's three calls for the machines of a libvirt host."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.libvirt import checkpoints
from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.adapters.hypervisor.libvirt.describe import describe, disk_of
from holdfast.adapters.hypervisor.libvirt.domains import Domain, DomainDisk, read_domain
from holdfast.adapters.hypervisor.libvirt.guard import finish_interrupted
from holdfast.adapters.hypervisor.libvirt.off import take_off
from holdfast.adapters.hypervisor.libvirt.snapshot import end_job, job_of
from holdfast.adapters.hypervisor.libvirt.taking import Place, Taking
from holdfast.adapters.hypervisor.qemu import bitmaps
from holdfast.errors import ConflictError, NotFoundError, SourceError
from holdfast.machine_settings import LibvirtEntry
from holdfast.ports.hypervisor import AtRest, Generations, Machine, Snapshot, Wish

ASKED_AT_ONCE = 8
RUN = Path("/run")
SOCKETS = "holdfast-lv-"
SCRATCH = ".holdfast-scratch-"


class LibvirtHypervisor:
    """See ports.hypervisor.Hypervisor. ``state``: the agent's folder. SourceError (LibvirtMissing)
    when libvirt's binding is not installed."""

    def __init__(self, entry: LibvirtEntry, state: Path) -> None:
        self._entry = entry
        self._state = state / "machines"
        self._connection = Connection(entry.uri)
        self._lock = threading.Lock()  # guards what follows
        self._taken: set[str] = set()
        self._seen: dict[str, Machine] = {}

    def machines(self) -> list[Machine]:
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            found = list(pool.map(self._describe, self._connection.domains()))
        return sorted((one for one in found if one is not None), key=lambda one: one.name)

    def _describe(self, domain: Any) -> Machine | None:
        """None for one that was undefined meanwhile. The agent of one that is being backed up is
        left alone."""
        try:
            uuid = str(domain.UUIDString()).lower()
        except self._connection.error:
            return None
        with self._lock:
            taken, seen = uuid in self._taken, self._seen.get(uuid)
        found = describe(self._connection, domain, seen if taken else None)
        if found is not None:
            with self._lock:
                self._seen[uuid] = found
        return found

    def begin(
        self,
        machine: str,
        disks: Sequence[int],
        wish: Wish,
        bitmaps: Generations,
        at_rest: AtRest | None = None,
    ) -> Snapshot:
        """Never at rest: the transaction of QEMU's is the moment, and no virtual CPU stops for it.
        See ports.hypervisor.Hypervisor."""
        check_tokens(bitmaps)
        domain = self._connection.domain(machine)
        with ExitStack() as ending:
            uuid = str(domain.UUIDString()).lower()
            ending.enter_context(self._claim(uuid, machine))
            read, active = self._read(domain)
            _check_whole(read)
            chosen = _select(read, disks)
            sockets = self._make_sockets(uuid, ending)
            if not active:
                luns = [one.lun for one in chosen]
                return take_off(read, luns, wish, bitmaps.token, sockets, ending)
            self._check_free(domain, read.name)
            pairs = [(one, disk_of(one)) for one in chosen]
            kept = ending.pop_all()
            try:
                place = self._place(uuid, sockets, chosen[0], kept)
                return Taking(self._connection, domain, read, place).take(pairs, wish, bitmaps)
            except self._connection.error as error:
                kept.close()
                raise self._connection.failed(f"backup of {read.name}", error) from error
            except BaseException:
                kept.close()
                raise

    def clear(self, machine: str) -> None:
        self._end_interrupted(machine, lambda _: None)

    def settle(self, machine: str, committed: str | None) -> None:
        if committed is not None:
            bitmaps.check_token(committed)
        keep = checkpoints.keep_only
        self._end_interrupted(machine, lambda found: keep(self._connection, found, committed))

    def _end_interrupted(self, machine: str, then: Callable[[Any], None]) -> None:
        """End what a killed backup left running; ``then`` for a domain that runs; what it left
        on the host goes last."""
        domain = self._connection.domain(machine)
        uuid = str(domain.UUIDString()).lower()
        with self._claim(uuid, machine):
            finish_interrupted(self._connection, self._note(uuid))
            try:
                read, active = self._read(domain)
                if active:
                    if SOCKETS in job_of(self._connection, domain):
                        end_job(self._connection, domain)
                    then(domain)
            except self._connection.error as error:
                raise self._connection.failed(f"machine {machine}", error) from error
            self._remove_leftovers(uuid, read)

    def _read(self, domain: Any) -> tuple[Domain, bool]:
        try:
            return read_domain(str(domain.XMLDesc(0))), bool(domain.isActive())
        except self._connection.error as error:
            raise self._connection.failed("libvirt does not describe the machine", error) from error

    def _check_free(self, domain: Any, name: str) -> None:
        job = job_of(self._connection, domain)
        if job:
            whose = "of ours" if SOCKETS in job else "of another program"
            raise ConflictError(
                f"machine {name} still has a backup job {whose}",
                code="SnapshotInProgress",
                hint="one of ours is ended when the next backup settles; another program's must "
                "end first (virsh domjobinfo NAME)",
                retry="later",
            )

    def _place(self, uuid: str, sockets: Path, first: DomainDisk, kept: ExitStack) -> Place:
        entry = self._entry
        return Place(
            sockets=sockets,
            scratch=self._scratch(uuid, first.path),
            note=self._note(uuid),
            percent=entry.scratch_percent,
            freeze_seconds=entry.freeze_seconds,
            let_go=kept.close,
        )

    @contextmanager
    def _claim(self, uuid: str, machine: str) -> Iterator[None]:
        with self._lock:
            if uuid in self._taken:
                raise ConflictError(
                    f"a backup of machine {machine} is under way",
                    code="SnapshotInProgress",
                    hint="wait until it has ended",
                    retry="later",
                )
            self._taken.add(uuid)
        try:
            yield
        finally:
            with self._lock:
                self._taken.discard(uuid)

    @staticmethod
    def _make_sockets(uuid: str, ending: ExitStack) -> Path:
        """A folder with a path short enough for sockets, mode 0700."""
        where = RUN if os.access(RUN, os.W_OK) else None
        folder = Path(tempfile.mkdtemp(prefix=f"{SOCKETS}{uuid[:8]}-", dir=where))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _remove_leftovers(self, uuid: str, read: Domain) -> None:
        """Folders of a killed agent."""
        for where in {RUN, Path(tempfile.gettempdir())}:
            for folder in where.glob(f"{SOCKETS}{uuid[:8]}-*"):
                if os.geteuid() in (0, folder.stat().st_uid):
                    shutil.rmtree(folder, ignore_errors=True)
        for disk in read.disks:
            shutil.rmtree(self._scratch(uuid, disk.path), ignore_errors=True)

    def _scratch(self, uuid: str, path: str) -> Path:
        """Beside the disk's image, where the user QEMU runs as surely gets to."""
        if self._entry.scratch:
            base = Path(self._entry.scratch)
        elif Path(path).is_file():
            base = Path(path).parent
        else:
            base = self._state
        return base / f"{SCRATCH}{uuid}"

    def _note(self, uuid: str) -> Path:
        self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._state / f"{uuid}.frozen"


def _check_whole(read: Domain) -> None:
    if read.problem:
        raise SourceError(
            f"machine {read.name} cannot be backed up whole: {read.problem}",
            code="DiskUnsupported",
            hint="disks are files or block devices of this host, qcow2 or raw",
        )


def _select(read: Domain, luns: Sequence[int]) -> list[DomainDisk]:
    """NotFoundError (DiskNotFound)."""
    by_lun = {disk.lun: disk for disk in read.disks}
    missing = [str(lun) for lun in luns if lun not in by_lun]
    if missing or not luns:
        raise NotFoundError(
            f"machine {read.name} has no disk with LUN {', '.join(missing) or '(none)'}",
            code="DiskNotFound",
            hint=f"its disks have the LUNs {', '.join(map(str, by_lun)) or '(none)'}",
        )
    return [by_lun[lun] for lun in dict.fromkeys(luns)]


def check_tokens(generations: Generations) -> None:
    """UsageError."""
    bitmaps.check_token(generations.token)
    for parent in generations.parents.values():
        bitmaps.check_token(parent.token)
