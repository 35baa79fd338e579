"""Random histories of a vault's log: what is refused changes nothing, what is accepted keeps the
invariants collect and restore rest on."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.vaultstore import log
from holdfast.vaultstore.state import InvalidRecordError, LogState
from holdfast.vaultstore.transitions import next_state

ITEMS = ("Linux;a/FileFolder;x", "Linux;a/FileFolder;y", "Linux;b/FileFolder;x")

KINDS = (
    *("open", "open", "pack", "pack", "commit", "commit", "close"),
    *("expire", "condemn", "sweep", "point", "table"),
)


class History:
    """Proposes operations, right and wrong ones, and tracks what an observer may rely on."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.state = LogState(hash=b"d" * 32)
        self.ended: set[bytes] = set()
        self.promised: dict[bytes, tuple[str, ...]] = {}
        self.swept: set[bytes] = set()
        self.append(log.VaultOpened(vault_id=b"v" * 16, domain_id=b"d" * 16))

    def append(self, *operations: log.Operation, time_ns: int = 0) -> None:
        record = log.LogRecord(
            sequence=self.state.sequence + 1,
            term=1,
            previous=self.state.hash,
            time_ns=time_ns or self.state.time_ns + 1,
            operations=operations,
        )
        again = log.decode_record(log.encode_record(record))
        assert again == record
        self.state = next_state(self.state, record, self.random.randbytes(32))

    def any_of(self, values: object) -> object:
        return self.random.choice([*values, b"?" * 16])  # type: ignore

    def propose(self) -> log.Operation:
        kind = self.random.choice(KINDS)
        return getattr(self, f"_{kind}")()

    def _open(self) -> log.Operation:
        item = self.random.choice(ITEMS)
        kind = self.random.choice(["backup", "backup", "restore"])
        newest = self.state.newest(item)
        pins = {newest} if newest else set()
        if self.random.random() < 0.5 and self.state.points:
            pins.add(self.random.choice([*self.state.points, "404"]))
        used = self.random.random() < 0.1 and self.state.sealing_keys
        return log.SessionOpened(
            session_id=self.random.choice([*self.state.sealing_keys])
            if used
            else self.random.randbytes(16),
            kind=kind,
            container=item.partition("/")[0],
            item_key=item,
            job_id=self.random.randbytes(1) * 16,
            attempt=1,
            pins=tuple(pins),
            parent=newest if kind == "backup" else "",
            epoch=1,
            wrapped_key=b"w",
        )

    def _pack(self) -> log.Operation:
        session_id = self.any_of(self.state.sessions)
        owner = session_id if self.random.random() < 0.7 else self.any_of(self.state.sessions)
        packs = tuple(
            log.PackAdded(
                pack_id=self.random.randbytes(16),
                session_id=owner,
                pack_class=1,
                size=100,
                hash=b"h" * 32,
                header_hash=b"h" * 32,
            )
            for _ in range(self.random.randint(0, 3))
        )
        base = self.state.next_ordinal + (self.random.random() < 0.1)
        table = log.TableAdded(
            table_id=self.random.randbytes(16), base=base, rows=5, size=9, hash=b"h" * 32
        )
        return log.PacksAdded(session_id=session_id, packs=packs, table=table)

    def _commit(self) -> log.Operation:
        session_id = self.any_of(self.state.sessions)
        entry = self.state.sessions.get(session_id)
        opened = entry.opened if entry else None
        return log.PointCommitted(
            session_id=session_id,
            rp_id=str(self.state.sequence * 1000 + self.random.randint(0, 3)),
            item_key=opened.item_key if opened else ITEMS[0],
            job_id=opened.job_id if opened else b"j" * 16,
            parent=opened.parent if opened else "",
            root_id=b"r" * 32,
            refset=log.RefsetNamed(name="n", hash=b"h" * 32, count=1),
            time_ns=1,
            type="Full",
            scheduled=True,
            tags=(),
            retain_until_ns=None,
            logical_bytes=1,
            stored_bytes=1,
            item_document={},
            claims={},
        )

    def _close(self) -> log.Operation:
        return log.SessionClosed(session_id=self.any_of(self.state.sessions))

    def _expire(self) -> log.Operation:
        count = min(len(self.state.points), self.random.randint(1, 2))
        chosen = self.random.sample(list(self.state.points), count) or ["404"]
        dropped = tuple(log.PointDropped(rp_id=rp_id, reason="r") for rp_id in chosen)
        return log.PointsExpired(points=dropped, explicit=self.random.random() < 0.3)

    def _condemn(self) -> log.Operation:
        return log.PacksCondemned(packs=(self.any_of(self.state.packs),))

    def _point(self) -> log.Operation:
        return log.PointRepaired(
            session_id=self.any_of(self.state.sessions),
            rp_id=self.random.choice([*self.state.points, "404"]),
            refset=log.RefsetNamed(name="better", hash=b"b" * 32, count=1),
        )

    def _table(self) -> log.Operation:
        table_id = self.any_of(self.state.tables)
        entry = self.state.tables.get(table_id)
        base = entry.table.base if entry else 0
        moved = base + (self.random.random() < 0.1)
        table = log.TableAdded(
            table_id=self.random.randbytes(16), base=moved, rows=5, size=9, hash=b"h" * 32
        )
        return log.TableRepaired(
            session_id=self.any_of(self.state.sessions), table_id=table_id, table=table
        )

    def _sweep(self) -> log.Operation:
        condemned = [p for p, e in self.state.packs.items() if e.condemned_at is not None]
        pack_id = self.any_of(condemned or self.state.packs)
        tables = tuple(t for t, e in self.state.tables.items() if pack_id in e.packs)
        drop = tables if self.random.random() < 0.5 else ()
        return log.PacksSwept(packs=(pack_id,), tables=drop)


def check(before: LogState, after: LogState, operation: log.Operation, history: History) -> None:
    """What holds after every accepted record."""
    assert after.next_ordinal >= before.next_ordinal
    assert after.next_pack >= before.next_pack
    gone = before.packs.keys() - after.packs.keys()
    for pack_id in gone:
        condemned_at = before.packs[pack_id].condemned_at
        assert condemned_at is not None
        assert all(entry.sequence > condemned_at for entry in before.sessions.values())
    history.swept |= gone
    assert not history.swept & after.packs.keys()
    for pack_id in before.packs.keys() & after.packs.keys():
        was = before.packs[pack_id].condemned_at
        assert was is None or after.packs[pack_id].condemned_at == was, "never resurrected"
    readable = after.points.keys() | after.expired.keys()
    for session in after.sessions.values():
        assert set(session.opened.pins) <= readable, "a pin stays readable"
    assert set(after.expired) <= set(after.pinned()), "kept for pins only"
    rows = [entry.table.base for entry in after.tables.values()]
    assert len(set(rows)) == len(rows), "a chunk is in one table"
    by_item = [rp_id for points in after.by_item.values() for rp_id in points]
    assert sorted(by_item) == sorted(after.points)
    assert all(after.by_item.values())
    assert len(after.by_job) == len(after.points), "a job has one point"
    for item, points in before.by_item.items():
        lost = set(points) - set(after.by_item.get(item, ()))
        explicit = isinstance(operation, log.PointsExpired) and operation.explicit
        assert explicit or points[-1] not in lost, "the latest never leaves by itself"
    for pack_id, entry in after.packs.items():
        assert entry.pack.session_id in after.sealing_keys, f"{pack_id.hex()} can be opened"
    for table_id, entry in after.tables.items():
        assert after.is_live_table(table_id) or set(entry.packs) <= history.swept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32))
def test_random_histories_keep_the_invariants(seed: int) -> None:
    history = History(seed)
    for _ in range(60):
        operation = history.propose()
        before, copy = history.state, history.state.copy()
        try:
            history.append(operation)
        except InvalidRecordError:
            assert history.state is before
            assert before == copy, "a refusal changes nothing"
            continue
        assert before == copy, "the earlier state is a value"
        check(before, history.state, operation, history)
        if isinstance(operation, log.SessionClosed):
            history.ended.add(operation.session_id)
    assert not history.ended & history.state.sessions.keys()


def test_histories_are_not_trivial() -> None:
    """The generator reaches points, expiry with pins, condemning and sweeping."""
    seen: set[str] = set()
    for seed in range(60):
        history = History(seed)
        for _ in range(80):
            operation = history.propose()
            try:
                history.append(operation)
                seen.add(type(operation).__name__)
            except InvalidRecordError:
                seen.add(f"refused {type(operation).__name__}")
            if history.state.expired:
                seen.add("expired and pinned")
        if history.swept or any(e.condemned_at for e in history.state.packs.values()):
            seen.add("condemned")
    names = ("SessionOpened", "SessionClosed", "PacksAdded", "PointCommitted", "PointsExpired")
    names += ("PacksCondemned", "PacksSwept")
    wanted = {*names, *(f"refused {name}" for name in names), "expired and pinned", "condemned"}
    assert wanted <= seen


@pytest.mark.parametrize("change", ["sequence", "previous", "term", "time", "empty"])
def test_records_out_of_chain_are_refused(change: str) -> None:
    history = History(1)
    record = log.LogRecord(
        sequence=history.state.sequence + 1 + (change == "sequence"),
        term=0 if change == "term" else 1,
        previous=b"?" * 32 if change == "previous" else history.state.hash,
        time_ns=0 if change == "time" else history.state.time_ns,
        operations=() if change == "empty" else (log.KeyExported(),),
    )
    with pytest.raises(InvalidRecordError):
        next_state(history.state, record, b"h" * 32)
