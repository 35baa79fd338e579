"""One backup of a machine's disks: all of them in parallel into one recovery point.

Windows of blocks are read, hashed, compressed and sealed by a pool of threads that all disks share;
a thread per disk walks its map. The root holds a stream per disk and the machine's description.
What was sent stays findable when a run ends early, so a later one sends nothing twice.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from holdfast.domain.work_hours import WorkHours, rate_at
from holdfast.errors import CancelledError, ConflictError, UsageError
from holdfast.ports.clock import Clock, Random
from holdfast.vaultstore.ids import ChunkKind, chunk_name
from holdfast.vaultstore.manifest_stream import write_stream
from holdfast.vaultstore.pack import PackClass
from holdfast.vaultstore.root import Root, Stream, encode_root
from holdfast.workloads.findings import Findings
from holdfast.workloads.packing import ChunkWriter, Throttle, stop_if
from holdfast.workloads.vm.disks.disk_run import DiskRun, Means
from holdfast.workloads.vm.disks.keys import keys_claims, keys_shown, write_keys
from holdfast.workloads.vm.disks.parent import Parent, ParentUnreadableError
from holdfast.workloads.vm.disks.values import (
    MACHINE_STREAM,
    MAX_DISKS,
    MAX_MACHINE_BYTES,
    OS_DISK_LUN,
    DiskDone,
    DiskResult,
    DisksPlan,
    DisksResult,
    DisksTransport,
    Progress,
    stream_name,
)

DISKS_AT_ONCE = 8
LOOK_SECONDS = 0.5


class DisksBackup:
    """One run. ``cancelled`` is asked all along; ``wait`` is how the throttle waits."""

    def __init__(
        self,
        plan: DisksPlan,
        transport: DisksTransport,
        clock: Clock,
        rng: Random,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.plan = plan
        self.progress = Progress()
        self.findings = Findings()
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._cancelled = cancelled
        self._limits = (plan.throttle_bytes_per_second, plan.work_hours)
        self._disks: list[DiskRun] = []
        self._throttle = Throttle(self._rate, wait)

    def limit(self, outside: int | None, hours: WorkHours | None) -> None:
        """Other limits from now on."""
        self._limits = (outside, hours)

    @property
    def disks(self) -> list[DiskDone]:
        """How far each disk is."""
        return [DiskDone(run.disk.lun, run.done_bytes, run.disk.source.size) for run in self._disks]

    def follow(self, runs: list[DiskRun]) -> None:
        """These disks are being read now."""
        self._disks = runs

    def _rate(self) -> int | None:
        return rate_at(*self._limits, self._clock.now())

    def run(self) -> DisksResult:
        """Make the recovery point. SourceError, UsageError, CancelledError (what was sent stays
        findable), or what the transport raises."""
        check_plan(self.plan)
        try:
            return self._attempt(use_parent=True)
        except ParentUnreadableError as error:
            why = ("ParentUnreadable", error.message)
        except ConflictError as error:
            if error.code != "MissingChunks":
                raise
            why = ("ChunksGone", "chunks the vault was said to have are gone or damaged")
        return self._attempt(use_parent=False, why=why)

    def _attempt(self, *, use_parent: bool, why: tuple[str, str] | None = None) -> DisksResult:
        self.findings = Findings()
        for one in self.plan.keys.findings if self.plan.keys is not None else ():
            self.findings.add(one.code, one.path, one.message)
        if why is not None:
            self.findings.add(why[0], b"", f"{why[1]}; the disks were read whole")
        self.progress.done_bytes = 0
        run = _Run(self, self._parts())
        try:
            return run.execute(use_parent=use_parent)
        except CancelledError:
            run.settle()
            raise
        finally:
            run.close()

    def _parts(self) -> tuple[DisksTransport, Random, Throttle, Callable[[], bool]]:
        return self._transport, self._rng, self._throttle, self._cancelled


def check_plan(plan: DisksPlan) -> None:
    """UsageError: DisksRefused for a machine without disks, with too many, or with two of one
    number; DescriptionRefused."""
    luns = [disk.lun for disk in plan.disks]
    if not 0 < len(luns) <= MAX_DISKS or len(set(luns)) != len(luns) or min(luns) < OS_DISK_LUN:
        raise UsageError(
            f"{len(luns)} disks with the numbers {luns[:8]} cannot be backed up together",
            code="DisksRefused",
            hint=f"choose 1 to {MAX_DISKS} disks with different numbers",
        )
    describe(plan)


class _Run:
    """The moving parts of one attempt."""

    def __init__(
        self,
        backup: DisksBackup,
        parts: tuple[DisksTransport, Random, Throttle, Callable[[], bool]],
    ) -> None:
        self._transport, rng, throttle, self._cancelled = parts
        self._plan = backup.plan
        self._follow = backup.follow
        self._findings = backup.findings
        self._progress = backup.progress
        self._keys = self._transport.grant.id_keys
        self._lock = threading.Lock()
        self._failed = threading.Event()
        self._writer = ChunkWriter(self._transport, rng, throttle, PackClass.DISKS)
        threads, walkers = self._plan.threads, min(len(self._plan.disks), DISKS_AT_ONCE)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read-disk")
        self._walkers = ThreadPoolExecutor(walkers, thread_name_prefix="disk")
        self._means = Means(
            plan=self._plan,
            writer=self._writer,
            put_page=self._put_page,
            keys=self._keys,
            pool=self._pool,
            rng=rng,
            findings=self._findings,
            report=self._report,
            cancelled=lambda: self._failed.is_set() or self._cancelled(),
        )

    def execute(self, *, use_parent: bool) -> DisksResult:
        point = self._transport.grant.parent
        parent = Parent(self._transport, point) if point is not None and use_parent else None
        runs = [DiskRun(disk, parent, self._means) for disk in self._plan.disks]
        self._follow(runs)
        self._progress.total_bytes = sum(disk.source.size for disk in self._plan.disks)
        self._progress.phase = "Transfer data to vault"
        tasks = [self._walkers.submit(run.run) for run in runs]
        self._watch(tasks, runs)
        done = [task.result() for task in tasks]
        return self._commit([stream for stream, _ in done], tuple(result for _, result in done))

    def _watch(self, tasks: list[Future[tuple[Stream, DiskResult]]], runs: list[DiskRun]) -> None:
        """Wait for all disks; the first failure ends the others, and is raised."""
        left = set(tasks)
        while left:
            over, left = wait(left, LOOK_SECONDS, FIRST_COMPLETED)
            for task in over:
                if (error := task.exception()) is not None:
                    self._failed.set()
                    raise error
            self._progress.transferred_bytes = self._writer.sent_bytes
            self._progress.read_bytes = sum(run.read_bytes for run in runs)

    def _report(self, done_bytes: int) -> None:
        with self._lock:
            self._progress.done_bytes += done_bytes

    def _put_page(self, page: bytes) -> bytes:
        return self._put(ChunkKind.DISK_PAGE, page)

    def _put_data(self, data: bytes) -> bytes:
        return self._put(ChunkKind.DATA, data)

    def _put_stream_page(self, page: bytes) -> bytes:
        return self._put(ChunkKind.FILE_PAGE, page)

    def _put(self, kind: ChunkKind, data: bytes) -> bytes:
        name = chunk_name(self._keys, kind, data)
        self._writer.store(kind, [(name, data)])
        return name[:32]

    # the end

    def settle(self) -> None:
        """An orderly stop: keep what was sent findable for the next attempt."""
        self._stop_threads()
        if receipts := self._writer.finish():
            self._transport.checkpoint(receipts)

    def close(self) -> None:
        self._stop_threads()
        self._writer.stop()

    def _stop_threads(self) -> None:
        self._failed.set()
        self._walkers.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def _commit(self, streams: list[Stream], disks: tuple[DiskResult, ...]) -> DisksResult:
        plan, findings = self._plan, self._findings
        self._progress.phase = "Commit"
        machine = write_stream(
            MACHINE_STREAM,
            describe(plan, disks),
            self._put_data,
            self._put_stream_page,
            "application/json",
        )
        puts = (self._put_data, self._put_stream_page)
        keys = write_keys(plan.keys, self._transport.grant, self._means.rng, *puts)
        root = Root(
            streams=(*streams, machine, *keys),
            host=plan.host,
            platform=plan.platform,
            consistency=plan.consistency,
            consistency_reason=plan.consistency_reason,
            findings=findings.all(),
            findings_count=findings.count,
        )
        root_id = self._put(ChunkKind.ROOT, encode_root(root))
        receipts = self._writer.finish()
        stop_if(self._cancelled)
        claims = {
            "transferredBytes": self._writer.sent_bytes,
            "findingsCount": findings.count,
            "consistency": plan.consistency,
            "consistencyReason": plan.consistency_reason,
            "extra": {"disks": [_claim(disk) for disk in disks]} | keys_claims(plan.keys),
        }
        rp_id = self._transport.commit(receipts, root_id, claims)
        sent = self._progress.transferred_bytes = self._writer.sent_bytes
        return DisksResult(
            recovery_point_id=rp_id,
            logical_bytes=sum(disk.data_bytes for disk in disks),
            transferred_bytes=sent,
            read_bytes=sum(disk.read_bytes for disk in disks),
            findings_count=findings.count,
            disks=disks,
        )


def describe(plan: DisksPlan, disks: tuple[DiskResult, ...] = ()) -> bytes:
    """The machine's description as it is stored. UsageError (DescriptionRefused)."""
    inputs = {disk.lun: disk for disk in plan.disks}
    whole = {
        "version": 1,
        "machine": dict(plan.machine),
        "consistency": plan.consistency,
        "consistencyReason": plan.consistency_reason,
        "disks": [
            {
                "lun": disk.lun,
                "stream": stream_name(disk.lun),
                "size": disk.size,
                "sectorBytes": inputs[disk.lun].sector_bytes,
                "identity": inputs[disk.lun].identity,
            }
            for disk in disks
        ],
    }
    if plan.keys is not None:
        whole["keys"] = keys_shown(plan.keys)
    try:
        text = json.dumps(whole, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)
        data = text.encode()
    except (TypeError, ValueError) as error:
        raise _refused(f"the machine's description is no JSON: {error}") from error
    if len(data) > MAX_MACHINE_BYTES:
        raise _refused(
            f"the machine's description has {len(data)} bytes; {MAX_MACHINE_BYTES} are the most"
        )
    return data


def _refused(why: str) -> UsageError:
    return UsageError(why, code="DescriptionRefused", hint="leave out what a restore does not need")


def _claim(disk: DiskResult) -> dict[str, object]:
    return {
        "lun": disk.lun,
        "read": disk.coverage.value,
        "why": disk.why,
        "audit": disk.audit.outcome.value,
        "audited": disk.audit.checked,
        "readBytes": disk.read_bytes,
        "dirtyBytes": disk.dirty_bytes,
        "changedBytes": disk.changed_bytes,
    }
