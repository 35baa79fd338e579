"""The invariant of immutable vaults: nothing goes before its lock horizon.

The watch keeps its own account: what callers were promised, and what the records of the log said at
the time. True time decides; the vault's may lead it by as much as clocks were believed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta

from holdfast.testing.simulation.surroundings import START, Time
from holdfast.vaultstore import layout, locking, log
from holdfast.vaultstore.state import LogState, Point
from holdfast.vaultstore.vaultclock import to_ns

BELIEVED_NS = 12 * 3600 * 1_000_000_000  # clocks that were set ahead by hours count as right
_DAY_NS = 86_400 * 1_000_000_000


class BrokenHorizonError(AssertionError):
    """Something went, or was left unlocked, before its time."""


class HorizonWatch:
    """``promised``: until when [s of true time] the point of each (item, job) must stay."""

    def __init__(self, time: Time, promised: Mapping[tuple[str, bytes], float]) -> None:
        self._time = time
        self._promised = promised
        self._packs: dict[bytes, int] = {}
        self._tables: dict[bytes, tuple[bytes, ...]] = {}
        self._retired: dict[bytes, int] = {}
        self._points: dict[str, Point] = {}
        self.checked = 0

    def begin(self, state: LogState) -> None:
        """What stood before anything was watched is believed."""
        self._packs = {name: entry.lock_until_ns for name, entry in state.packs.items()}
        self._retired = dict(state.retired)
        self._remember(state)

    def record(
        self,
        record: log.LogRecord,
        state: LogState,
        packs_of: Callable[[str], Collection[bytes]],
    ) -> None:
        """After a record: who left might leave, and who came is locked with its packs."""
        for rp_id in self._points.keys() - state.points.keys():
            self._require_past(self._point_horizon(self._points[rp_id]), f"point {rp_id} left")
        for rp_id in state.points.keys() - self._points.keys():
            point = state.points[rp_id]
            until_ns = self._promise(point)
            if until_ns > record.time_ns and point.lock_until_ns < until_ns:
                raise BrokenHorizonError(f"point {rp_id} was committed without its lock")
        locks = [op for op in record.operations if isinstance(op, log.PointsLocked)]
        for lock in (one for op in locks for one in op.points):
            for pack_id in packs_of(lock.rp_id):
                until_ns = locking.rounded_up(lock.until_ns)
                self._packs[pack_id] = max(self._packs.get(pack_id, 0), until_ns)
        for table_id in self._tables.keys() - state.tables.keys():
            self._retired[table_id] = self._table_horizon(table_id)
        self._remember(state)

    def deleted(self, name: str) -> None:
        """After an object is gone."""
        room, _, rest = name.partition("/")
        if f"{room}/" == layout.PACKS:
            self._require_past(self._packs.get(bytes.fromhex(rest.rpartition("/")[2]), 0), name)
        if f"{room}/" == layout.TABLES:
            table_id = bytes.fromhex(rest)
            known = table_id in self._tables
            until_ns = self._table_horizon(table_id) if known else self._retired.get(table_id, 0)
            self._require_past(until_ns, name)

    def _remember(self, state: LogState) -> None:
        self._points = dict(state.points)
        self._tables = {name: entry.all_packs for name, entry in state.tables.items()}

    def _table_horizon(self, table_id: bytes) -> int:
        return max((self._packs.get(pack_id, 0) for pack_id in self._tables[table_id]), default=0)

    def _promise(self, point: Point) -> int:
        seconds = self._promised.get((point.op.item_key, point.op.job_id))
        return 0 if seconds is None else to_ns(START + timedelta(seconds=seconds))

    def _point_horizon(self, point: Point) -> int:
        return max(self._promise(point), point.lock_until_ns)

    def _require_past(self, until_ns: int, what: str) -> None:
        self.checked += until_ns > 0
        now_ns = to_ns(START + timedelta(seconds=self._time.seconds))
        if until_ns > now_ns + BELIEVED_NS:
            days = (until_ns - now_ns) / _DAY_NS
            raise BrokenHorizonError(f"{what}: {days:.2f} days before its lock horizon")
