"""Disks into a real vault and back: what comes back is what was there, and little is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.errors import (
    CancelledError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    SourceError,
    UsageError,
)
from holdfast.ports.block_device import Extent as PortExtent
from holdfast.ports.block_device import ExtentKind
from holdfast.testing.disks_vault import MACHINE, DisksVault, MemoryDisk
from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore.disk_pages import Geometry, geometry_of
from holdfast.vaultstore.ids import ChunkKind, chunk_name
from holdfast.vaultstore.manifest_disk import Tally, disk_stream
from holdfast.vaultstore.root import Root, encode_root
from holdfast.workloads.packing import ChunkWriter, Throttle
from holdfast.workloads.vm.disks import blocks
from holdfast.workloads.vm.disks.backup import DisksBackup
from holdfast.workloads.vm.disks.parent import parent_disks
from holdfast.workloads.vm.disks.patched import PatchedSource, disk_before
from holdfast.workloads.vm.disks.restore import DiskRestore
from holdfast.workloads.vm.disks.values import AuditOutcome, Coverage, DiskInput

GRID = 16
BLOCK = 1 << GRID
RNG = SeededRandom(7)


def disk(source: MemoryDisk, lun: int = 0, since: str = "", identity: str = "a") -> DiskInput:
    return DiskInput(
        lun=lun, source=source, identity=identity, changes_since=since, grid_exponent=GRID
    )


def filled(blocks: int, tail: int = 0) -> MemoryDisk:
    """Every third block holds noise, every third text, every third nothing."""
    made = MemoryDisk(blocks * BLOCK - tail)
    for number in range(0, blocks, 3):
        made.put(number * BLOCK, RNG.token(min(BLOCK, made.size - number * BLOCK)))
        if number + 1 < blocks:
            made.put((number + 1) * BLOCK + 512, b"text of a disk " * 100)
    return made


@pytest.fixture
def vault(tmp_path: Path) -> DisksVault:
    return DisksVault(tmp_path)


def test_a_full_backup_comes_back_as_it_was(vault: DisksVault) -> None:
    source = filled(40, tail=1000)
    done = vault.back_up(disk(source), machine={"name": "web", "memory": 7})
    (result,) = done.disks
    assert (result.coverage, result.size) == (Coverage.FULL, source.size)
    assert result.read_bytes < source.size * 0.5, "holes are not read"
    found, restored = vault.restore()
    assert found.content == source.content
    assert restored.data_bytes == result.data_bytes < source.size
    assert found.kinds[2 * BLOCK // 512] is ExtentKind.UNALLOCATED, "holes are not written"
    point = vault.open()
    assert point.machine()["machine"] == {"name": "web", "memory": 7}
    assert [entry.size for entry in point.disks] == [source.size]
    record = vault.vault.recovery_point(done.recovery_point_id)
    assert record.logical_bytes >= result.data_bytes
    assert vault.vault.verify().damages == ()


def test_an_incremental_reads_what_changed_and_little_more(vault: DisksVault) -> None:
    source = filled(3000)
    first = vault.back_up(disk(source))
    source.changed = set()
    source.put(100 * BLOCK + 5000, b"changed")
    source.put(2100 * BLOCK - 3, b"across a border")
    source.discard(1500 * BLOCK, 2 * BLOCK)
    source.reads = 0
    done = vault.back_up(disk(source, since=first.recovery_point_id), audit_blocks=4)
    (result,) = done.disks
    assert (result.coverage, result.why) == (Coverage.CHANGES, "")
    assert result.audit.outcome is AuditOutcome.TRUE
    assert result.read_bytes == source.reads <= (4 + 2 * 4 + 2 + 16) * BLOCK
    assert done.transferred_bytes < 1_500_000
    assert vault.restore()[0].content == source.content
    assert result.data_bytes == vault.open().disks[0].data_bytes
    source.changed = None
    again = vault.back_up(disk(source))
    assert again.disks[0].data_bytes == result.data_bytes, "counted anew it is the same"
    assert again.disks[0].changed_bytes == 0
    assert vault.restore(0, first.recovery_point_id)[0].content != source.content


def test_nothing_changed_sends_only_a_root(vault: DisksVault) -> None:
    source = filled(200)
    first = vault.back_up(disk(source))
    source.changed = set()
    done = vault.back_up(disk(source, since=first.recovery_point_id), audit_blocks=0)
    assert (done.read_bytes, done.disks[0].changed_bytes) == (0, 0)
    assert done.transferred_bytes <= 3 * 4096
    assert vault.restore()[0].content == source.content


@pytest.mark.parametrize("told", [True, False])
def test_zeros_that_were_written_are_stored_as_none(vault: DisksVault, told: bool) -> None:
    source = filled(30)
    source.put(2 * BLOCK, bytes(BLOCK))
    if told:
        source.discard(5 * BLOCK, BLOCK, ExtentKind.ZERO)
    done = vault.back_up(disk(source))
    assert done.disks[0].data_bytes == 20 * BLOCK
    assert vault.restore()[0].content == source.content


writes = st.lists(
    st.tuples(
        st.integers(0, 41 * BLOCK),
        st.integers(1, 3 * BLOCK),
        st.sampled_from(["put", "zero", "no"]),
    ),
    max_size=6,
)


@given(st.lists(writes, min_size=1, max_size=2), st.lists(st.integers(1, 44 * BLOCK), max_size=2))
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
def test_any_changes_give_points_that_are_the_disk_of_their_time(
    tmp_path_factory: pytest.TempPathFactory,
    rounds: list[list[tuple[int, int, str]]],
    sizes: list[int],
) -> None:
    vault = DisksVault(tmp_path_factory.mktemp("model"))
    source = filled(41)
    kept: dict[str, bytes] = {}
    for number, changes in enumerate([[], *rounds]):
        if number and number <= len(sizes):
            source.resize(sizes[number - 1])
        for offset, length, how in changes:
            offset = min(offset, source.size - 1)
            length = min(length, source.size - offset)
            if how == "put":
                source.put(offset, RNG.token(1) * length)
            else:
                kind = ExtentKind.ZERO if how == "zero" else ExtentKind.UNALLOCATED
                source.discard(offset, length, kind)
        done = vault.back_up(disk(source, since=vault.latest()), audit_blocks=3)
        source.changed = set()
        kept[done.recovery_point_id] = bytes(source.content)
        (result,) = done.disks
        assert result.coverage is (Coverage.CHANGES if number else Coverage.FULL), result.why
    for rp_id, content in kept.items():
        assert vault.restore(0, rp_id)[0].content == content
        held = sum(one.data_bytes for one in vault.open(rp_id).disks)
        assert held == vault.restore(0, rp_id)[1].data_bytes


def test_two_disks_are_read_at_a_time(vault: DisksVault) -> None:
    """Each waits for the other to be read: one after the other they would wait for ever."""
    meeting = threading.Barrier(2, timeout=30)

    class Meeting(MemoryDisk):
        def read_into(self, offset: int, view: memoryview) -> None:
            if not self.reads:
                meeting.wait()
            super().read_into(offset, view)

    disks = [Meeting(3 * BLOCK), Meeting(2 * BLOCK)]
    for lun, source in enumerate(disks):
        source.put(0, RNG.token(100 + lun))
    vault.back_up(*(disk(source, lun, identity=str(lun)) for lun, source in enumerate(disks)))
    for lun, source in enumerate(disks):
        assert vault.restore(lun)[0].content == source.content


def test_progress_reaches_its_end_and_reads_are_paced(vault: DisksVault) -> None:
    source, told = filled(50, tail=3), []
    vault.back_up(disk(source), pace=told.append)
    assert vault.run is not None
    figures = vault.run.progress
    assert figures.done_bytes == figures.total_bytes == source.size
    assert sum(told) == source.reads
    assert figures.read_bytes == source.reads
    assert figures.transferred_bytes > 0


def test_empty_disks_and_disks_of_nothing_come_back(vault: DisksVault) -> None:
    disks = [MemoryDisk(0), MemoryDisk(1), MemoryDisk(300 * BLOCK)]
    for _ in range(2):
        since = vault.latest()
        done = vault.back_up(
            *(disk(one, lun, since, str(lun)) for lun, one in enumerate(disks)), audit_blocks=2
        )
        assert (done.read_bytes, done.logical_bytes) == (0, 0)
        point = vault.open()
        assert [entry.size for entry in point.disks] == [one.size for one in disks]
    assert vault.restore(0)[0].content == b""
    assert vault.restore(1)[0].content == b"\0"


def test_a_throttle_is_kept_and_can_be_changed(vault: DisksVault) -> None:
    source, waited = MemoryDisk(30 * BLOCK), []
    source.put(0, RNG.token(source.size))
    session = vault.session()
    plan = vault.plan([disk(source)], throttle_bytes_per_second=500_000)
    rng = vault.files._rng
    run = DisksBackup(plan, session, vault.files.clock, rng, wait=waited.append)
    done = run.run()
    session.close()
    assert sum(waited) >= done.transferred_bytes / 500_000 * 0.99
    run.limit(None, None)
    assert run._rate() is None


# a source that lies, and disks that are others


def test_a_lying_bitmap_is_caught_and_the_disk_is_read_whole(vault: DisksVault) -> None:
    source = filled(120)
    first = vault.back_up(disk(source))
    source.changed = set()
    for number in range(0, 120, 3):
        source.put(number * BLOCK, RNG.token(100), told=False)
    done = vault.back_up(disk(source, since=first.recovery_point_id))
    (result,) = done.disks
    assert result.audit.outcome is AuditOutcome.LYING
    assert result.coverage is Coverage.COMPARED
    assert (len(result.audit.wrong) > 0, vault.codes()) == (True, ["ChangeTrackingLied"])
    assert vault.restore()[0].content == source.content
    assert vault.vault.root(done.recovery_point_id).findings[0].path == b"disk-0"


def test_a_source_that_lets_only_changes_be_read_is_believed_and_told_of(vault: DisksVault) -> None:
    source = filled(60)
    first = vault.back_up(disk(source))
    source.changed = set()
    source.put(BLOCK, b"changed")
    source.fails_at = 30 * BLOCK + 5
    done = vault.back_up(disk(source, since=first.recovery_point_id), audit_blocks=60)
    assert done.disks[0].audit.outcome is AuditOutcome.REFUSED
    assert (done.disks[0].coverage, vault.codes()) == (Coverage.CHANGES, ["AuditRefused"])
    assert vault.restore()[0].content == source.content


class OnlyChanges(MemoryDisk):
    """Lets nothing be asked of or read but what changed."""

    def _check(self, offset: int, length: int) -> None:
        sectors = range(offset // 512, (offset + length - 1) // 512 + 1)
        if self.changed is None or not self.changed.issuperset(sectors):
            raise SourceError("this was not written to", code="DiskUnreadable")

    def extents(self, offset: int, length: int) -> Iterator[PortExtent]:
        self._check(offset, length)
        return super().extents(offset, length)

    def read_into(self, offset: int, view: memoryview) -> None:
        self._check(offset, len(view))
        super().read_into(offset, view)


def test_a_source_of_nothing_but_changes_is_made_whole_by_the_point(vault: DisksVault) -> None:
    source = filled(50, tail=512)
    first = vault.back_up(disk(source)).recovery_point_id
    narrow = OnlyChanges(source.size)
    narrow.content, narrow.kinds = source.content, source.kinds
    narrow.put(9 * BLOCK + 1000, b"changed")
    narrow.put(20 * BLOCK - 600, RNG.token(1200))
    narrow.discard(30 * BLOCK + 512, 2048)
    narrow.put(41 * BLOCK, RNG.token(700))
    narrow.resize(52 * BLOCK)
    narrow.put(50 * BLOCK - 512, b"n" * (2 * BLOCK + 512))
    narrow.reads = 0
    session = vault.session()
    before = disk_before(session, 0, "a")
    assert before is not None
    whole = PatchedSource(narrow, before)
    asked = DiskInput(
        lun=0, source=whole, identity="a", changes_since=first, auditable=False, grid_exponent=GRID
    )
    run = DisksBackup(vault.plan([asked]), session, vault.files.clock, vault.files._rng)
    done = run.run()
    before.close()
    session.close()
    assert (done.disks[0].coverage, done.disks[0].why) == (Coverage.CHANGES, "")
    assert narrow.reads < 2 * BLOCK + 8 * 1024, "of the disk only what changed"
    assert vault.restore()[0].content == narrow.content
    assert run.findings.count == 0


def test_data_where_the_point_has_none_is_noticed_too(vault: DisksVault) -> None:
    source = MemoryDisk(64 * BLOCK)
    source.put(0, b"one block of data")
    first = vault.back_up(disk(source))
    source.changed = set()
    source.put(BLOCK, RNG.token(63 * BLOCK), told=False)
    done = vault.back_up(disk(source, since=first.recovery_point_id), audit_blocks=8)
    assert done.disks[0].audit.outcome is AuditOutcome.LYING
    assert vault.restore()[0].content == source.content


@pytest.mark.parametrize(
    ("cut", "grown"),
    [
        (7 * BLOCK, 30 * BLOCK),
        (10 * BLOCK + 4096, 30 * BLOCK),
        (11 * BLOCK + 512, 12 * BLOCK - 512),
    ],
)
def test_what_was_cut_off_a_disk_stays_away_when_it_grew_again(
    vault: DisksVault, cut: int, grown: int
) -> None:
    """As QEMU does, a disk made smaller and larger again names no change there. Its last block is
    written anew, and only one block would be compared at random."""
    source = MemoryDisk(12 * BLOCK - 512)
    for number in range(12):
        source.put(number * BLOCK, RNG.token(min(BLOCK, source.size - number * BLOCK)))
    first = vault.back_up(disk(source))
    source.changed = set()
    source.resize(cut)
    source.resize(grown)
    source.put(9 * BLOCK, b"written since")
    done = vault.back_up(disk(source, since=first.recovery_point_id), audit_blocks=1)
    (result,) = done.disks
    assert (result.coverage, result.audit.outcome) == (Coverage.COMPARED, AuditOutcome.CUT)
    assert "smaller" in result.why
    assert vault.codes() == [], "its bitmap did not lie"
    assert vault.restore()[0].content == source.content


@pytest.mark.parametrize("why", ["another point", "another disk", "unknown", "another grid"])
def test_changes_that_cannot_be_used_make_the_disk_be_read(vault: DisksVault, why: str) -> None:
    source = filled(30)
    first = vault.back_up(disk(source)).recovery_point_id
    source.changed = None if why == "unknown" else set()
    source.put(BLOCK, b"changed, and not told", told=False)
    asked = {
        "another point": disk(source, since="12345"),
        "another disk": disk(source, since=first, identity="b"),
        "unknown": disk(source, since=first),
        "another grid": DiskInput(
            lun=0, source=source, identity="a", changes_since=first, grid_exponent=GRID + 1
        ),
    }[why]
    done = vault.back_up(asked)
    assert done.disks[0].coverage is (Coverage.FULL if why == "another grid" else Coverage.COMPARED)
    assert done.disks[0].why
    assert vault.codes() == []
    assert vault.restore()[0].content == source.content


def test_disks_come_and_go(vault: DisksVault) -> None:
    one, two = filled(20), filled(33, tail=5)
    first = vault.back_up(disk(one, 0, identity="x"), disk(two, 1, identity="y"))
    assert {entry.lun for entry in vault.open().disks} == {0, 1}
    since = first.recovery_point_id
    one.changed, two.changed, three = set(), set(), filled(10)
    done = vault.back_up(disk(two, 0, since, "y"), disk(three, 3, since, "z"), audit_blocks=0)
    moved, added = sorted(done.disks, key=lambda result: result.lun)
    assert (moved.coverage, moved.read_bytes) == (Coverage.CHANGES, 0), "known by its identity"
    assert added.coverage is Coverage.FULL
    assert vault.restore(0)[0].content == two.content
    assert vault.restore(3)[0].content == three.content
    assert vault.restore(0, since)[0].content == one.content
    assert vault.restore(1, since)[0].content == two.content


def test_the_systems_disk_and_a_sources_token_are_known_again(vault: DisksVault) -> None:
    source = filled(20)
    asked = DiskInput(lun=-1, source=source, identity="a", token="t-1", grid_exponent=GRID)
    first = vault.back_up(asked).recovery_point_id
    session = vault.session()
    (known,) = parent_disks(session)
    session.close()
    assert known == (-1, "a", "t-1", source.size, GRID)
    source.changed = set()
    source.put(3 * BLOCK, b"changed")
    done = vault.back_up(disk(source, -1, first), audit_share=1.0)
    (result,) = done.disks
    assert (result.dirty_bytes, result.changed_bytes) == (BLOCK, BLOCK)
    assert result.audit.checked >= 13, "every clean block of data"
    assert result.read_bytes == result.audit.read_bytes + BLOCK
    assert vault.restore(-1)[0].content == source.content
    assert vault.run is not None
    assert vault.run.disks == [(-1, source.size, source.size)]
    assert vault.vault.root(first).streams[0].name == "disk-os"


def test_a_machine_without_disks_or_with_two_of_a_number_is_refused(vault: DisksVault) -> None:
    for disks in ((), (disk(filled(1)), disk(filled(1)))):
        with pytest.raises(UsageError):
            vault.back_up(*disks)
    for machine in ({"x": "y" * (1 << 20)}, {"x": object()}, {"x": float("nan")}):
        with pytest.raises(UsageError) as caught:
            vault.back_up(disk(filled(1)), machine=machine)
        assert caught.value.code == "DescriptionRefused"
    assert vault.latest() == ""


# interrupted


def sent(vault: DisksVault) -> int:
    packs = vault.files.folder.glob("store/*/packs/*/*")
    return sum(path.stat().st_size for path in packs)


def test_a_cancelled_backup_goes_on_and_sends_nothing_twice(vault: DisksVault) -> None:
    source = MemoryDisk(800 * BLOCK)
    source.put(0, RNG.token(source.size))
    with pytest.raises(CancelledError):
        vault.back_up(disk(source), cancelled=lambda: source.reads > 400 * BLOCK)
    before = sent(vault)
    assert 0 < before < source.size
    done = vault.back_up(disk(source))
    assert done.transferred_bytes <= source.size - before + 10 * 65536
    assert sent(vault) < 1.05 * source.size
    assert vault.restore()[0].content == source.content


def test_a_broken_disk_ends_the_backup_with_its_reason(vault: DisksVault) -> None:
    good, bad = filled(60), filled(60)
    bad.fails_at = 30 * BLOCK
    with pytest.raises(SourceError) as caught:
        vault.back_up(disk(good, 0), disk(bad, 1, identity="b"))
    assert caught.value.code == "DiskUnreadable"
    assert vault.latest() == ""


def test_a_parent_that_cannot_be_read_is_done_without(vault: DisksVault) -> None:
    source = filled(60)
    first = vault.back_up(disk(source))
    source.changed = set()
    source.put(0, b"changed")
    packs = sorted(vault.files.folder.glob("store/*/packs/*/*"), key=lambda p: p.stat().st_size)
    for path in packs:
        path.write_bytes(bytes(path.stat().st_size))
    vault.vault.verify()
    done = vault.back_up(disk(source, since=first.recovery_point_id))
    assert vault.codes() == ["ParentUnreadable"]
    assert done.disks[0].coverage is Coverage.FULL
    assert vault.restore()[0].content == source.content


def test_chunks_known_to_be_damaged_are_sent_again(vault: DisksVault) -> None:
    source = filled(90)
    first = vault.back_up(disk(source))
    source.changed = set()
    largest = max(
        vault.files.folder.glob("store/*/packs/*/*"), key=lambda path: path.stat().st_size
    )
    data = bytearray(largest.read_bytes())
    for at in range(4096, len(data), 4096):
        data[at] ^= 1
    largest.write_bytes(data)
    assert vault.vault.verify().damages
    done = vault.back_up(disk(source, since=first.recovery_point_id), audit_blocks=0)
    assert (vault.codes(), done.disks[0].coverage) == (["ChunksGone"], Coverage.FULL)
    assert vault.restore()[0].content == source.content


# restores that end early


def test_a_restore_goes_on_where_it_was(vault: DisksVault) -> None:
    source = filled(700, tail=9)
    vault.back_up(disk(source))
    target = MemoryDisk(source.size)
    first = DiskRestore(vault.open(), 0, target, cancelled=lambda: first.reached > 300 * BLOCK)
    with pytest.raises(CancelledError):
        first.run()
    assert 0 < first.reached < source.size
    again = DiskRestore(vault.open(), 0, target, start=first.reached)
    done = again.run()
    assert target.content == source.content
    assert done.data_bytes < 467 * BLOCK - 150 * BLOCK
    assert again.reached == source.size


def test_a_used_target_is_cleared_where_the_point_has_nothing(vault: DisksVault) -> None:
    source = filled(10)
    vault.back_up(disk(source))
    target = MemoryDisk(source.size)
    target.put(0, b"x" * source.size)
    DiskRestore(vault.open(), 0, target, is_empty=False).run()
    assert target.content == source.content


def test_damage_ends_a_restore_and_is_named(vault: DisksVault) -> None:
    source = filled(100)
    vault.back_up(disk(source))
    point = vault.open()
    largest = max(
        vault.files.folder.glob("store/*/packs/*/*"), key=lambda path: path.stat().st_size
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        DiskRestore(point, 0, MemoryDisk(source.size)).run()
    assert caught.value.code == "FrameDamaged"
    with pytest.raises(NotFoundError):
        point.open(5)


# expire and collect


def test_points_that_stay_outlive_those_that_go(vault: DisksVault) -> None:
    source = filled(2500)
    kept: dict[str, bytes] = {}
    for number in range(4):
        done = vault.back_up(disk(source, since=vault.latest()), audit_blocks=2)
        source.changed = set()
        kept[done.recovery_point_id] = bytes(source.content)
        source.put((200 * number + 17) * BLOCK, RNG.token(9 * BLOCK))
        source.discard((2300 - 100 * number) * BLOCK, 30 * BLOCK)
    points = sorted(kept, key=int)
    before = vault.vault.statistics().stored_bytes
    for rp_id in (points[0], points[2]):
        vault.vault.expire(vault.vault.plan_expire({rp_id: "test"}))
        del kept[rp_id]
        for _ in range(2):
            vault.vault.collect()
    for rp_id, content in kept.items():
        assert vault.restore(0, rp_id)[0].content == content
    assert vault.vault.verify().damages == ()
    done = vault.back_up(disk(source, since=vault.latest()))
    assert done.disks[0].coverage is Coverage.CHANGES
    assert vault.restore()[0].content == source.content
    for rp_id in [*kept, done.recovery_point_id]:
        vault.vault.expire(vault.vault.plan_expire({rp_id: "test"}, explicit=True))
    for session in vault.vault.open_sessions():
        vault.vault.close_session(session.session_id)
    for _ in range(2):
        vault.vault.collect()
    assert vault.vault.statistics().stored_bytes == 0 < before
    assert vault.vault.recovery_points(MACHINE) == []


def test_a_commit_names_a_disk_page_that_is_missing(vault: DisksVault) -> None:
    session = vault.session()
    writer = ChunkWriter(session, RNG, Throttle(lambda: None, lambda _s: None))
    stream = disk_stream("disk-0", b"?" * 32, Geometry(BLOCK, GRID), Tally())
    root = encode_root(Root(streams=(stream,)))
    name = chunk_name(session.grant.id_keys, ChunkKind.ROOT, root)
    writer.store(ChunkKind.ROOT, [(name, root)])
    receipts = writer.finish()
    with pytest.raises(ConflictError) as caught:
        session.commit(receipts, name[:32], {})
    assert caught.value.code == "MissingChunks"
    writer.stop()
    session.close()


def test_windows_never_hold_more_than_their_buffer() -> None:
    wanted = [blocks.Wanted(number, ()) for number in range(300)]
    for exponent in (12, 16, 20, 23):
        geometry = geometry_of(300 << exponent, exponent)
        for window in blocks.windows(wanted, geometry):
            assert len(window) << exponent <= blocks.WINDOW_BYTES
