"""Repair: put in order what can be, name what is lost, delete nothing.

A plan says what would be done about each damaged object. Carrying it out writes new objects under
new names and then a record that names them, one for each table and each recovery point; the damaged
objects stay where they are. Killed between any two writes, the vault is as it was or a step
further, and the next repair goes on. A session is open meanwhile, so that no collect takes a new
object for a leftover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from holdfast.errors import ConflictError
from holdfast.vaultstore import layout, locking, log, refset
from holdfast.vaultstore.affected import Affected, affected_by
from holdfast.vaultstore.chain import create_own
from holdfast.vaultstore.core import SESSION_BYTES, VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.healing import Better, better_refset, brought_copies, container_of
from holdfast.vaultstore.health import note_repair, read_health
from holdfast.vaultstore.holding import locking_packs
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.rings import following, store_rings
from holdfast.vaultstore.session import SessionAsked, Sessions
from holdfast.vaultstore.state import LogState, Point
from holdfast.vaultstore.table import encode_table, table_of
from holdfast.vaultstore.values import Damage, RepairPlan, RepairResult, RepairStep
from holdfast.vaultstore.vaultclock import to_ns
from holdfast.vaultstore.verify import diagnose

CONTAINER = "holdfast;repair"
REPLACED = ("packs", "tables", "refsets")  # of these the log names what is needed
Cancelled = Callable[[], bool]


class Repairs:
    """Plans and carries out repairs of one vault."""

    def __init__(self, core: VaultCore, sessions: Sessions, platform_key: bytes | None) -> None:
        self._core = core
        self._sessions = sessions
        self._platform_key = platform_key

    def plan(self) -> RepairPlan:
        """What a repair would do about the damage the last checks found, looked at again."""
        damages = self._look_again()
        return RepairPlan(
            basis=self._core.state.sequence,
            steps=tuple(self._steps(damages)),
            checked=bool(read_health(self._core).checks),
        )

    def run(self, job_id: bytes, cancelled: Cancelled) -> RepairResult:
        """Carry out what can be done now."""
        damages = self._look_again()
        done: list[RepairStep] = []
        with self._session(job_id) as session_id:
            for step in self._steps(damages):
                if cancelled():
                    break
                if self._do(session_id, step):
                    done.append(step)
            left = self._note(damages, done)  # before a collect may take what is put aside
        steps = tuple(self._steps(left))
        return RepairResult(done=tuple(done), left=steps, complete=not cancelled())

    def heal(self, rp_id: str) -> int:
        """Let older points of a container use sound copies of damaged chunks that the backup which
        made ``rp_id`` has brought; how many points were healed."""
        core = self._core
        with core.lock:
            newest = core.point(rp_id)
            if not brought_copies(core, newest):
                return 0
            container, job_id = container_of(newest), newest.op.job_id
            own = [one for one in core.state.points.values() if container_of(one) == container]
        ill = [one.op.rp_id for one in own if _is_healed_by_copies(better_refset(core, one))]
        if not ill:
            return 0
        before = self._look_again()
        with self._session(job_id) as session_id:
            healed = sum(self._rewrite_refset(session_id, rp_id) for rp_id in ill)
            self._note(before, ())
        return healed

    @contextmanager
    def _session(self, job_id: bytes) -> Iterator[bytes]:
        asked = SessionAsked(
            kind="verify",
            container=CONTAINER,
            item_key=CONTAINER,
            job_id=job_id,
            attempt=1,
            pins=(),
        )
        session_id = self._sessions.begin(asked).session_id
        try:
            yield session_id
        finally:
            self._sessions.end(session_id)

    def _note(self, before: Sequence[Damage], done: Sequence[RepairStep]) -> list[Damage]:
        """Write down what is left, and what nothing needs any more; what is left."""
        rings = [one.key for one in before if _room(one) == "keyring"]
        settled = set(rings) if any(one.action == "rewrite key ring" for one in done) else set()
        found = [one for one in self._look_again() if one.key not in settled]
        known = [*before, *(one.damage for one in read_health(self._core).found)]
        settled |= {one.key for one in known if _room(one) in REPLACED}
        settled -= {one.key for one in found if _room(one) != "packs" or one.frames}
        left = [one for one in found if one.key not in settled]
        note_repair(self._core, left, settled, to_ns(self._core.writing.clock.now()))
        return left

    def _look_again(self) -> list[Damage]:
        """What is damaged of what the last checks named, and every smaller object."""
        core = self._core
        found = read_health(core).found
        now = {one.key: one for one in diagnose(core, [one.damage.key for one in found])}
        beyond = [one.damage for one in found if one.damage.key not in now]
        return [*now.values(), *(one for one in beyond if self._still(one))]

    def _still(self, damage: Damage) -> bool:
        """Whether damage that only a scrub sees is worth telling: its object is there still, and no
        point needs it."""
        return _room(damage) not in REPLACED and self._core.objects.size(damage.key) is not None

    # what to do

    def _steps(self, damages: Sequence[Damage]) -> Iterator[RepairStep]:
        rings = [one for one in damages if _room(one) == "keyring"]
        yield from (self._ring_step(one) for one in rings[:1])
        for damage in damages:
            if _room(damage) == "tables":
                yield self._table_step(damage)
            elif _room(damage) not in ("packs", "refsets", "keyring"):
                yield _step("put back", damage, "put it back from a copy of the store")
        state = self._core.state
        told = [one for one in damages if _room(one) in ("packs", "refsets", "tables")]
        by_point = {rp_id: one.key for one in told for rp_id in one.recovery_points}
        for rp_id in [rp_id for rp_id in state.points if rp_id in by_point]:
            yield from self._point_steps(state.points[rp_id], by_point[rp_id])

    def _table_step(self, damage: Damage) -> RepairStep:
        table_id = bytes.fromhex(damage.key.partition("/")[2])
        if table_id in self._core.lost_tables:
            return _step("put back", damage, "its packs are damaged too: put them or it back")
        return _step("rebuild table", damage, "its rows are known from the packs' trailers")

    def _ring_step(self, damage: Damage) -> RepairStep:
        if self._platform_key is None:
            return _step("put back", damage, "put it back from a copy of the store")
        detail = "its keys are known and get a new number; export the recovery key again"
        return _step("rewrite key ring", damage, detail)

    def _point_steps(self, point: Point, key: str) -> Iterator[RepairStep]:
        better = better_refset(self._core, point)
        if better.changes and better.readable:
            what = f"{better.found} chunks have a sound copy"
            yield self._point_step("use sound copies", key, what, point, better)
        elif better.changes:
            own, what = layout.refset_key(point.op.refset.name), "its pages tell what it needs"
            yield self._point_step("rebuild refset", own, what, point, better)
        if len(better.lost) or better.ordinals is None:
            yield self._lost_step(point, key, better)

    @staticmethod
    def _point_step(action: str, key: str, detail: str, point: Point, better: Better) -> RepairStep:
        points = (point.op.rp_id,)
        return RepairStep(
            action=action, key=key, detail=detail, recovery_points=points, chunks=better.found
        )

    def _lost_step(self, point: Point, key: str, better: Better) -> RepairStep:
        lost = affected_by(self._core, point, {row.tobytes() for row in better.lost})
        return RepairStep(
            action="wait",
            key=key,
            detail=_loss(lost),
            recovery_points=(point.op.rp_id,),
            chunks=len(better.lost),
            files=tuple(lost.names()),
            file_count=lost.count,
        )

    # doing it

    def _do(self, session_id: bytes, step: RepairStep) -> bool:
        if step.action == "rebuild table":
            return self._rebuild_table(session_id, bytes.fromhex(step.key.partition("/")[2]))
        if step.action in ("use sound copies", "rebuild refset"):
            return self._rewrite_refset(session_id, step.recovery_points[0])
        if step.action == "rewrite key ring":
            return self._rewrite_rings(step.key)
        return False

    def _rebuild_table(self, session_id: bytes, table_id: bytes) -> bool:
        core = self._core
        with core.lock:
            entry = core.state.tables.get(table_id)
            if entry is None:
                return False
            rows = core.rows_for_repair(table_id, entry)
            if rows is None:
                return False
            names = {number: name for name, number in core.state.containers.items()}
        table = table_of(session_id, names[entry.container], entry.all_packs, rows)
        data = core.seal.seal(ObjectKind.TABLE, encode_table(table))
        new_id = core.rng.token(16)
        create_own(core.objects, layout.table_key(new_id), data)
        added = msgspec.structs.replace(
            entry.table, table_id=new_id, size=len(data), hash=hash_object(data)
        )

        def replacing(state: LogState) -> Sequence[log.Operation]:
            if table_id not in state.tables:
                return ()
            op = log.TableRepaired(session_id=session_id, table_id=table_id, table=added)
            return (op,)

        core.append(replacing)
        return new_id in core.state.tables

    def _rewrite_refset(self, session_id: bytes, rp_id: str) -> bool:
        core = self._core
        done = False

        def replacing(state: LogState) -> Sequence[log.Operation]:
            nonlocal done
            point = state.points.get(rp_id)
            better = better_refset(core, point) if point is not None else None
            if better is None or not better.changes or better.ordinals is None:
                return ()
            named = self._write_refset(session_id, rp_id, better.ordinals)
            done = True
            op = log.PointRepaired(session_id=session_id, rp_id=rp_id, refset=named)
            until_ns = point.lock_until_ns if point is not None else 0
            if not locking.is_locked(until_ns, state):
                return (op,)
            return (op, *locking_packs(core, state, better.ordinals, until_ns))

        with core.lock:
            core.append(replacing)
        return done

    def _write_refset(
        self, session_id: bytes, rp_id: str, ordinals: refset.Ordinals
    ) -> log.RefsetNamed:
        core = self._core
        body = session_id[:SESSION_BYTES] + refset.encode_refset(ordinals)
        data = core.seal.seal(ObjectKind.REFSET, body)
        digest = hash_object(data)
        name = f"{rp_id}-{digest[:4].hex()}"
        create_own(core.objects, layout.refset_key(name), data)
        return log.RefsetNamed(name=name, hash=digest, count=len(ordinals))

    def _rewrite_rings(self, key: str) -> bool:
        """The same keys and slots under the next number, which counts from then on."""
        core = self._core
        if self._platform_key is None:
            raise ConflictError(
                "a vault opened by a recovery key writes no key ring", code="VaultReadOnly"
            )
        with core.lock:
            rings = following(core.objects, core.rings, core.rings.recovery)
            store_rings(core.objects, core.vault_id, rings, self._platform_key, core.rng)
            core.rings = rings
        return bool(key)


def _is_healed_by_copies(better: Better) -> bool:
    return better.readable and better.changes


def _room(damage: Damage) -> str:
    return damage.key.partition("/")[0]


def _step(action: str, damage: Damage, detail: str) -> RepairStep:
    return RepairStep(
        action=action, key=damage.key, detail=detail, recovery_points=damage.recovery_points
    )


def _loss(lost: Affected) -> str:
    if lost.whole:
        return "nothing of it can be read: put the damaged objects back, or let the point go"
    parts = [f"{lost.count} files"] if lost.count else []
    parts += [f"{len(lost.gaps)} pages of its list"] if lost.gaps else []
    parts += [f"{len(lost.streams)} disks"] if lost.streams else []
    what = ", ".join(parts) or "nothing that it restores"
    return f"{what} lost unless the next backup sends them again or the object is put back"
