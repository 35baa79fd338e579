"""One recovery point of one machine: settle, one point in time, all disks into the vault, and the
change records turned only when the point is committed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from holdfast import crashpoint
from holdfast.agent.vm.easing import Easing
from holdfast.agent.vm.kept.backup_copy import BackupCopy
from holdfast.agent.vm.kept.copies import KeptCopies
from holdfast.agent.vm.keys import HostKeys
from holdfast.agent.vm.seen import to_description
from holdfast.agent.vm.watch import Watch
from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.errors import CancelledError, HoldfastError, SourceError
from holdfast.nbd.address import UnixSocket
from holdfast.nbd.device import NbdSource
from holdfast.nbd.wire import DIRTY_BITMAP
from holdfast.ports.clock import Clock, Random
from holdfast.ports.hypervisor import (
    Consistency,
    DiskExport,
    Generations,
    Hypervisor,
    Machine,
    Parent,
    Snapshot,
    SnapshotOutcome,
    Wish,
)
from holdfast.ports.vm_tasks import (
    SNAPSHOT_PHASE,
    UPLOAD_PHASE,
    DiskBackedUp,
    DiskProgress,
    InstantCopy,
    VmBackedUp,
    VmBackup,
)
from holdfast.vaultstore.disk_pages import SMALL_GRID_EXPONENT
from holdfast.workloads.vm.disks.backup import DisksBackup
from holdfast.workloads.vm.disks.parent import ParentDisk, parent_disks
from holdfast.workloads.vm.disks.values import (
    Coverage,
    DiskInput,
    DiskResult,
    DisksPlan,
    DisksResult,
)

log = logging.getLogger("holdfast.agent")
TOKEN = re.compile(r"[a-z0-9-]{1,64}")
LEVELS = {level.azure_name: level for level in Consistency}
SET_TO_NONE = "its host is set to keep none"
MAX_REASON = 1000  # [characters] of a reason that is told


@dataclass(frozen=True, slots=True)
class Means:
    """What backups work with. ``host``: the name of this one. ``find``: a machine by its UUID.
    ``write_latency_ms``: when a guest's writes take longer, its disks are read more slowly; 0 for
    never. ``keys``: of this host's machines; ``kept``: copies of their disks beside these, None
    where none are made."""

    hypervisor: Hypervisor
    find: Callable[[str], Machine]
    clock: Clock
    rng: Random
    host: str
    write_latency_ms: float = 0.0
    keys: HostKeys = field(default_factory=HostKeys)
    kept: KeptCopies | None = None


class MachineBackup:
    """One run; see VmWork.back_up."""

    def __init__(
        self, means: Means, asked: VmBackup, session: VmSession, control: VmControl
    ) -> None:
        self._means, self._asked = means, asked
        self._session, self._control = session, control
        self._grids: dict[int, int] = {}  # by LUN, of the point before
        self._copy: BackupCopy | None = None
        self._easing = Easing(means.write_latency_ms, means.clock, control.wait)

    def run(self) -> VmBackedUp:
        self._control.show(SNAPSHOT_PHASE)
        machine = self._means.find(self._asked.uuid)
        snapshot = self._begin()
        try:
            if self._copy is not None:
                disks = [export.disk for export in snapshot.exports]
                self._copy.stand(to_description(machine, disks), snapshot.outcome)
                self._control.machines_changed()  # it is a recovery point already
            crashpoint.reach("agent.vm.taken")
            self._control.check()
            if self._stays_here:
                self._end(snapshot.rollback)  # changes count from the newest point in the vault
                return self._outcome(snapshot)
            result = self._transfer(machine, snapshot)
        except BaseException as error:
            if self._copy is not None:
                self._copy.leave(error, self._control)
            self._end(snapshot.rollback)
            raise
        crashpoint.reach("agent.vm.committed")
        point = self._session.grant.parent
        if point is not None and point.rp_id == result.recovery_point_id:
            self._end(snapshot.rollback)  # this job had made its point before it was interrupted
            if self._copy is not None:
                self._copy.give_up("its recovery point is of an earlier moment")
        else:
            self._end(snapshot.commit)
            if self._copy is not None:
                self._copy.in_vault(result.recovery_point_id)
        return self._outcome(snapshot, result)

    @property
    def _stays_here(self) -> bool:
        return self._asked.local_only and self._copy is not None and self._copy.standing

    def _begin(self) -> Snapshot:
        """Tidy up what an interrupted backup left, by the word of the point before; then take the
        point in time."""
        asked, hypervisor = self._asked, self._means.hypervisor
        known = parent_disks(self._session)
        self._grids = {disk.lun: disk.grid_exponent for disk in known}
        before = {disk.lun: disk for disk in known if TOKEN.fullmatch(disk.token) and disk.identity}
        newest, point = _newest(before), self._session.grant.parent
        if newest and point is not None and self._means.kept is not None:
            self._means.kept.heal(newest, point.rp_id)
        hypervisor.settle(asked.uuid, newest)
        self._control.check()
        levels = LEVELS[asked.wish], LEVELS[asked.minimum]
        wish = Wish(*levels, asked.minimum_by) if asked.minimum_by else Wish(*levels)
        parents = {lun: Parent(disk.token, disk.identity) for lun, disk in before.items()}
        generations = Generations(self._means.rng.token(16).hex(), parents)
        snapshot = self._take(wish, generations)
        reached = snapshot.outcome
        told = (asked.name, reached.level.azure_name, reached.freeze_ms, reached.stop_ms)
        log.info("point in time of %s: %s, frozen %.0f ms, stopped %.0f ms", *told)
        return snapshot

    def _take(self, wish: Wish, generations: Generations) -> Snapshot:
        """With a local copy, where the policy wants one and the host can."""
        asked, means = self._asked, self._means
        luns = [disk.lun for disk in asked.disks]
        if means.kept is None or not asked.instant_days:
            return means.hypervisor.begin(asked.uuid, luns, wish, generations)
        copy = BackupCopy(means.kept, asked, generations.token)
        try:
            snapshot = means.hypervisor.begin(asked.uuid, luns, wish, generations, copy.at_rest)
        except BaseException:
            copy.give_up()
            raise
        self._copy = copy
        return snapshot

    def _transfer(self, machine: Machine, snapshot: Snapshot) -> DisksResult:
        """SourceError with the reason (ScratchFull, MachineLost) when the point in time is lost."""
        watch = Watch(snapshot, self._control)
        try:
            with ExitStack() as ending:
                inputs = [self._input(export, snapshot, ending) for export in snapshot.exports]
                work = self._work(machine, snapshot, inputs, watch.should_stop)
                first = [
                    DiskProgress(lun=one.lun, done_bytes=0, total_bytes=one.source.size)
                    for one in inputs
                ]
                self._control.show(UPLOAD_PHASE, first, detail=snapshot.outcome.reason[:MAX_REASON])
                with watch.follow(work):
                    result = work.run()
        except (SourceError, CancelledError) as error:
            if self._control.stopped:
                raise
            snapshot.check()
            if isinstance(error, SourceError):
                raise
            raise _lost(self._asked.name) from error
        for one in work.findings.all():
            self._control.findings.add(one.code, one.path, one.message)
        return result

    def _work(
        self,
        machine: Machine,
        snapshot: Snapshot,
        inputs: list[DiskInput],
        should_stop: Callable[[], bool],
    ) -> DisksBackup:
        asked, means, easing = self._asked, self._means, self._easing
        easing.begin(machine.writes, snapshot.guest_writes)
        plan = DisksPlan(
            disks=inputs,
            machine=to_description(machine, [export.disk for export in snapshot.exports]),
            host=means.host,
            consistency=snapshot.outcome.level.azure_name,
            consistency_reason=_reason(snapshot.outcome),
            throttle_bytes_per_second=asked.throttle_bytes_per_second,
            audit_share=asked.audit_share,
            pace=lambda size: easing.pace(size, should_stop),
            keys=means.keys.take(machine.name, [one.lun for one in inputs]),
        )
        wait = self._control.wait
        return DisksBackup(
            plan, self._session, means.clock, means.rng, cancelled=should_stop, wait=wait
        )

    def _input(self, export: DiskExport, snapshot: Snapshot, ending: ExitStack) -> DiskInput:
        """Changes count from the point before only where the export has their record. A disk keeps
        its blocks' size, for blocks of another one share nothing."""
        record = export.dirty_context
        bitmap = record.removeprefix(DIRTY_BITMAP) if record else None
        source = NbdSource.open(UnixSocket(Path(export.socket)), export.export, bitmap)
        ending.callback(source.close)
        point = self._session.grant.parent
        return DiskInput(
            lun=export.disk.lun,
            source=source,
            identity=export.disk.identity,
            changes_since=point.rp_id if point is not None and record else "",
            token=snapshot.token,
            grid_exponent=self._grids.get(export.disk.lun, SMALL_GRID_EXPONENT),
        )

    def _end(self, how: Callable[[], None]) -> None:
        """What cannot be done now ``settle`` does before the next backup."""
        try:
            how()
        except HoldfastError as error:
            log.warning("the end of a backup of %s: %s", self._asked.name, error.message)
            self._control.finding(
                "SnapshotLeft",
                "",
                f"parts of the backup are left in the machine ({error.message}); the next backup "
                "removes them",
            )

    def _copied(self) -> InstantCopy | None:
        if self._copy is not None:
            return self._copy.told()
        return InstantCopy(kept=False, reason=SET_TO_NONE) if self._asked.instant_days else None

    def _outcome(self, snapshot: Snapshot, result: DisksResult | None = None) -> VmBackedUp:
        """Without a result of a point that is in no vault."""
        outcome = snapshot.outcome
        whys = {export.disk.lun: export.why_full for export in snapshot.exports}
        return VmBackedUp(
            recovery_point_id=result.recovery_point_id if result else "",
            consistency=outcome.level.azure_name,  # type: ignore[arg-type]
            consistency_reason=_reason(outcome),
            freeze_ms=round(outcome.freeze_ms, 1),
            stop_ms=round(outcome.stop_ms, 1),
            waited_ms=round(self._easing.waited_ms, 1),
            guest_write_ms=round(self._easing.worst_ms, 2),
            instant=self._copied(),
            disks=tuple(
                _backed_up(disk, whys[disk.lun]) for disk in (result.disks if result else ())
            ),
        )


def _lost(name: str) -> SourceError:
    return SourceError(
        f"the point in time of machine {name} could not be watched any more",
        code="MachineLost",
        hint="see whether the machine runs and its monitor answers; the next backup tidies up",
        retry="later",
    )


def _newest(before: Mapping[int, ParentDisk]) -> str | None:
    """The token of the point before: one for all its disks."""
    tokens = {disk.token for disk in before.values()}
    return tokens.pop() if len(tokens) == 1 else None


def _reason(outcome: SnapshotOutcome) -> str:
    code = f" ({outcome.code})" if outcome.code and outcome.code not in outcome.reason else ""
    return outcome.reason[:MAX_REASON] + code


def _backed_up(disk: DiskResult, why_full: str) -> DiskBackedUp:
    full = "" if disk.coverage is Coverage.CHANGES else (why_full or disk.why or "not known")
    return DiskBackedUp(
        lun=disk.lun,
        logical_bytes=disk.size,
        dirty_bytes=disk.dirty_bytes,
        read_bytes=disk.read_bytes,
        audited_bytes=disk.audit.read_bytes,
        transferred_bytes=disk.changed_bytes,
        full=full[:MAX_REASON],
    )
