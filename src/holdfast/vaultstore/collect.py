"""Collect: free what no recovery point needs. Condemn, fence, sweep; no clock in the argument.

1. Condemn: a record names packs without a needed chunk, computed from the refsets of the very state
   the record is appended to. From then on their chunks answer absent and no commit resolves to
   them, so nothing can come to need them again.
2. Fence: sessions that were open before that record may still read or rely on them. They are open
   in the log, so they are known; the sweep waits until each has ended by record.
3. Sweep: objects are deleted, then a record says so. A crash in between repeats the deletion.
4. Rewrite, if asked: what is needed of packs that are mostly dead is moved into new ones
   (``rewriter``). They are as dead as any other then, and steps 1 to 3 take them. It comes last,
   so that freeing room needs none.

In an immutable vault nothing is condemned before its lock horizon (``locking``): until then it can
be used again, and cannot go anyway.

Every step is safe from any process at any time, stops anywhere, and is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from holdfast.vaultstore import layout, locking, log
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.health import load_damage
from holdfast.vaultstore.layout import VaultObjects
from holdfast.vaultstore.liveness import (
    Liveness,
    liveness_of,
    needed_points,
    packs_touched,
    undisturbed,
)
from holdfast.vaultstore.orphans import Torn, find_orphans
from holdfast.vaultstore.pace import Pace
from holdfast.vaultstore.reserve import Reserve, append_freeing
from holdfast.vaultstore.rewriter import Limits, Rewriter, Rewritten, StoppedError
from holdfast.vaultstore.rewriting import batches_of, copied_by, sparse_packs, table_bytes
from holdfast.vaultstore.state import LogState, PackEntry
from holdfast.vaultstore.values import CollectBudget, CollectPlan, CollectResult

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]
SWEEP_BATCH = 64  # packs deleted between two records


@dataclass(slots=True)
class _Run:
    budget: CollectBudget
    progress: Progress
    cancelled: Cancelled
    pace: Pace
    total: int = 0
    moved: int = 0
    deletes: int = 0
    freed: int = 0
    condemned: int = 0
    swept: int = 0
    orphans: int = 0
    left: bool = False
    rewritten: Rewritten = field(default_factory=Rewritten)

    def may_go_on(self) -> bool:
        budget = self.budget
        spent = (budget.deletes is not None and self.deletes >= budget.deletes) or (
            budget.freed_bytes is not None and self.freed >= budget.freed_bytes
        )
        if spent or self.cancelled():
            self.left = True
            return False
        return True

    def deleted(self, size: int) -> None:
        self.deletes += 1
        self.freed += size
        self._report()

    def delete(self, objects: VaultObjects, key: str, size: int) -> None:
        """Delete an object when its time has come."""
        self.pace.pay(1, 0, self.cancelled)
        objects.delete(key)
        self.deleted(size)

    def pay(self, requests: int, size: int) -> None:
        """Wait for the turn of a request that moves chunks. StoppedError."""
        self.pace.pay(requests, size, self.cancelled)
        if self.cancelled():
            raise StoppedError
        self.moved += size
        self._report()

    def _report(self) -> None:
        done = self.freed + self.moved
        self.progress(done, max(self.total, done))


class Collector:
    """Plans and runs collects of one vault."""

    def __init__(self, core: VaultCore, reserve: Reserve, rewriter: Rewriter) -> None:
        self._core = core
        self._reserve = reserve
        self._rewriter = rewriter
        self._torn: Torn = {}
        self._made: tuple[CollectPlan, Liveness] | None = None

    def plan(self, spare_jobs: Collection[bytes] = (), rewrite_below: float = 0.0) -> CollectPlan:
        """What a collect would do now. Takes the lock only for moments. NotFoundError
        (VaultStoreMissing): what is missing as a whole is not judged."""
        core = self._core
        core.objects.require_vault()
        load_damage(core)  # what a repair of another process put aside stays
        leftovers = find_orphans(core, self._torn)
        state, liveness = undisturbed(core, lambda: _judged(core, core.state))
        unneeded = condemnable(state, liveness, spare_jobs)
        condemn = [one for one in unneeded if not locking.is_locked(one.lock_until_ns, state)]
        ready = sweepable(state)
        needed = liveness.needed()
        live = [e for e in state.packs.values() if needed[e.ordinal] and e.condemned_at is None]
        sparse = [e for e in live if liveness.dead_bytes[e.ordinal] > 0]
        worth = sparse_packs(state, liveness, rewrite_below, spare_jobs)
        batches = batches_of(worth, self._rewriter.target_bytes)
        rewrite = [one.entry for batch in batches for one in batch]
        plan = CollectPlan(
            basis=state.sequence,
            refsets=tuple(liveness.refsets),
            condemn=tuple(entry.pack.pack_id for entry in condemn),
            condemn_bytes=_bytes(condemn),
            sweep=tuple(entry.pack.pack_id for entry in ready.free),
            sweep_bytes=_bytes(ready.free),
            fenced=tuple(entry.pack.pack_id for entry in ready.fenced),
            waiting_for=tuple(dict.fromkeys((*ready.sessions, *leftovers.sessions))),
            orphans=tuple(info.key for info in leftovers.free),
            orphan_bytes=sum(info.size for info in leftovers.free),
            torn=tuple(info.key for info in leftovers.waiting),
            live_packs=len(live),
            live_bytes=_bytes(live),
            sparse_packs=len(sparse),
            sparse_dead_bytes=int(sum(liveness.dead_bytes[entry.ordinal] for entry in sparse)),
            rewrite=tuple(entry.pack.pack_id for entry in rewrite),
            rewrite_bytes=_bytes(rewrite),
            rewrite_copy_bytes=sum(copied_by(batch) for batch in batches),
            rewrite_table_bytes=sum(table_bytes(state, batch) for batch in batches),
            **_locked_of(state, [*ready.locked, *unneeded]),
        )
        self._made = (plan, liveness) if rewrite else None
        return plan

    def run(
        self,
        plan: CollectPlan | None,
        budget: CollectBudget,
        progress: Progress,
        cancelled: Cancelled,
        pace: Pace,
    ) -> CollectResult:
        """Carry out a plan (or a fresh one), within a budget, no faster than ``pace``."""
        core = self._core
        with core.lock:
            core.refresh()
            core.refuse_in_doubt()
            core.clock.require_trust(core.state.time_ns, "collect")
        plan = plan or self.plan(rewrite_below=budget.rewrite_below)
        run = _Run(budget, progress, cancelled, pace)
        run.total = plan.condemn_bytes + plan.sweep_bytes + plan.orphan_bytes
        run.total += plan.rewrite_bytes + 2 * plan.rewrite_copy_bytes  # read, written, freed
        if run.may_go_on():
            self._condemn(plan.refsets, plan.condemn, run)
        self._sweep(run)
        self._delete_orphans(plan, run)
        if plan.rewrite and run.may_go_on():
            self._rewrite(plan, run)
        self._reserve.restore()
        fenced = sweepable(core.state).fenced
        return CollectResult(
            condemned_packs=run.condemned,
            swept_packs=run.swept,
            deleted_orphans=run.orphans,
            freed_bytes=run.freed,
            fenced_packs=len(fenced),
            complete=not (run.left or fenced or plan.torn),
            rewritten_packs=len(run.rewritten.emptied),
            written_bytes=run.rewritten.written_bytes,
            full=run.rewritten.full,
        )

    def _rewrite(self, plan: CollectPlan, run: _Run) -> None:
        """Move what is needed, and collect what that left behind."""
        found = self._liveness_for(plan)
        run.rewritten = self._rewriter.run(plan.rewrite, found, Limits(run.may_go_on, run.pay))
        run.left |= run.rewritten.left
        if run.rewritten.emptied:
            self._condemn(tuple(found.refsets), run.rewritten.emptied, run)
            self._sweep(run)

    def _liveness_for(self, plan: CollectPlan) -> Liveness:
        """What the plan was made from, or the same anew for a plan that was not the last here."""
        made, self._made = self._made, None
        if made is not None and made[0] is plan:
            return made[1]
        core = self._core
        return undisturbed(core, lambda: liveness_of(core, core.state))

    def _condemn(self, refsets: Sequence[str], chosen: Sequence[bytes], run: _Run) -> None:
        core = self._core
        computed_from = frozenset(refsets)
        condemned = 0

        def condemning(state: LogState) -> Sequence[log.Operation]:
            nonlocal condemned
            points = needed_points(state).values()
            newer = [point for point in points if point.op.refset.name not in computed_from]
            touched = packs_touched(core, state, newer)
            now = core.decide_at(state)
            packs = tuple(
                pack_id
                for pack_id in chosen
                if _may_go(now, pack_id)
                and state.packs[pack_id].condemned_at is None
                and pack_id not in touched
            )
            condemned = len(packs)
            return (log.PacksCondemned(packs=packs),) if packs else ()

        undisturbed(core, lambda: append_freeing(core, condemning))
        run.condemned += condemned

    def _sweep(self, run: _Run) -> None:
        """Delete condemned packs past their fence, in batches that each end with a record."""
        self._core.refresh()
        waiting = sweepable(self._at_vault_time()).free
        while waiting and run.may_go_on():
            self._core.require_sound()  # an older copy may still need what this log condemned
            batch: list[PackEntry] = []
            while waiting and len(batch) < SWEEP_BATCH and (not batch or run.may_go_on()):
                entry = waiting.pop()
                pack = entry.pack
                key = layout.pack_key(pack.session_id, pack.pack_id)
                run.delete(self._core.objects, key, pack.size)
                batch.append(entry)
            self._record_sweep(batch, run)

    def _at_vault_time(self) -> LogState:
        core = self._core
        with core.lock:
            return replace(core.state, time_ns=core.vault_time_ns())

    def _record_sweep(self, batch: Sequence[PackEntry], run: _Run) -> None:
        dropped: list[bytes] = []

        def sweeping(state: LogState) -> Sequence[log.Operation]:
            now = self._core.decide_at(state)  # a clock that went back since frees nothing
            packs = [e.pack.pack_id for e in batch if _may_go(now, e.pack.pack_id)]
            gone = set(packs)
            dropped[:] = [
                table_id
                for table_id, table in state.tables.items()
                if all(pack_id in gone or pack_id not in state.packs for pack_id in table.all_packs)
            ]
            if not packs:
                return ()
            return (log.PacksSwept(packs=tuple(packs), tables=tuple(dropped)),)

        append_freeing(self._core, sweeping)
        run.swept += len(batch)
        for table_id in dropped:
            self._core.objects.delete(layout.table_key(table_id))

    def _delete_orphans(self, plan: CollectPlan, run: _Run) -> None:
        sizes = plan.orphan_bytes // max(1, len(plan.orphans))
        if plan.orphans:
            self._core.require_sound()
        for key in plan.orphans:
            if not run.may_go_on():
                return
            run.delete(self._core.objects, key, sizes)
            run.orphans += 1


def _judged(core: VaultCore, state: LogState) -> tuple[LogState, Liveness]:
    """A state at the time it is now, and what it needs."""
    found = liveness_of(core, state)
    return replace(state, time_ns=core.vault_time_ns()), found


def condemnable(
    state: LogState, liveness: Liveness, spare_jobs: Collection[bytes] = ()
) -> list[PackEntry]:
    """Packs nothing needs. Spared, to save a second upload and not for safety: those sent for a
    job that has an open session or is named in ``spare_jobs``."""
    needed = liveness.needed()
    jobs = {entry.opened.job_id for entry in state.sessions.values()} | set(spare_jobs)
    return [
        entry
        for entry in state.packs.values()
        if entry.condemned_at is None
        and not bool(needed[entry.ordinal])
        and state.sealing_keys[entry.pack.session_id].job_id not in jobs
    ]


@dataclass(frozen=True, slots=True)
class Sweepable:
    """Condemned packs: those past fence and horizon, those before their fence, the sessions these
    wait for, and those that wait for their horizon only."""

    free: list[PackEntry] = field(default_factory=list)
    fenced: list[PackEntry] = field(default_factory=list)
    sessions: list[bytes] = field(default_factory=list)
    locked: list[PackEntry] = field(default_factory=list)


def sweepable(state: LogState) -> Sweepable:
    """What becomes of condemned packs at the time of a state."""
    found = Sweepable()
    waiting: dict[bytes, None] = {}
    for entry in state.packs.values():
        if entry.condemned_at is None:
            continue
        sessions = state.fence_of(entry.condemned_at)
        waiting.update(dict.fromkeys(sessions))
        if sessions:
            found.fenced.append(entry)
        elif locking.is_locked(entry.lock_until_ns, state):
            found.locked.append(entry)
        else:
            found.free.append(entry)
    found.sessions.extend(waiting)
    return found


def _may_go(now: LogState, pack_id: bytes) -> bool:
    entry = now.packs.get(pack_id)
    return entry is not None and not locking.is_locked(entry.lock_until_ns, now)


def _locked_of(state: LogState, unneeded: Sequence[PackEntry]) -> dict[str, Any]:
    """The fields of a plan about packs that nothing needs and that wait for their horizon."""
    locked = [one for one in unneeded if locking.is_locked(one.lock_until_ns, state)]
    times = [one.lock_until_ns for one in locked]
    return {
        "locked": tuple(one.pack.pack_id for one in locked),
        "locked_bytes": _bytes(locked),
        "locked_from_ns": min(times, default=0),
        "locked_until_ns": max(times, default=0),
    }


def _bytes(entries: Sequence[PackEntry]) -> int:
    return sum(entry.pack.size for entry in entries)
