"""A disk of a point at any offset: right bytes, few fetches, bounded memory, many readers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import AccessError, IntegrityError, UsageError
from holdfast.ports.block_device import ExtentKind
from holdfast.testing.disks_vault import DisksVault, MemoryDisk
from holdfast.testing.ports import SeededRandom
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.point_disk import PointDisk
from holdfast.workloads.vm.disks.values import DiskInput

GRID = 16
BLOCK = 1 << GRID
BLOCKS = 90


class Counted:
    """A restore session that counts the frames it reads, and fails when told."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.frames = self.calls = 0
        self.fails = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def read_frames(self, pack_id: bytes, frames: list[int]) -> object:
        if self.fails:
            raise IntegrityError("the store is damaged")
        self.frames += len(frames)
        self.calls += 1
        return self._inner.read_frames(pack_id, frames)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[DisksVault, MemoryDisk]:
    vault = DisksVault(tmp_path_factory.mktemp("point-disk"))
    source = MemoryDisk(BLOCKS * BLOCK - 700)
    rng = SeededRandom(3)
    for block in range(0, BLOCKS, 2):
        source.put(block * BLOCK, rng.token(min(BLOCK, source.size - block * BLOCK)))
    source.put(11 * BLOCK, bytes(BLOCK))
    vault.back_up(DiskInput(lun=0, source=source, grid_exponent=GRID))
    return vault, source


def opened(vault: DisksVault, **more: int) -> tuple[PointDisk, Counted]:
    inner = vault.open().source._transport  # type: ignore[attr-defined]
    session = Counted(inner)
    point = MachinePoint(ChunkFetcher(session))  # type: ignore[arg-type]
    session.frames = session.calls = 0
    return PointDisk(point, 0, **more), session


def read(disk: PointDisk, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    disk.read_into(offset, memoryview(buffer))
    return bytes(buffer)


@given(st.lists(st.tuples(st.integers(0, BLOCKS * BLOCK), st.integers(0, 9 * BLOCK)), max_size=12))
@settings(deadline=None, max_examples=20)
def test_any_reads_give_the_disks_bytes(
    place: tuple[DisksVault, MemoryDisk], reads: list[tuple[int, int]]
) -> None:
    vault, source = place
    disk, _ = opened(vault, cache_bytes=5 * BLOCK)
    for offset, length in reads:
        offset = min(offset, source.size)
        length = min(length, source.size - offset)
        assert read(disk, offset, length) == source.content[offset : offset + length]
    disk.close()


def test_extents_say_what_the_point_has(place: tuple[DisksVault, MemoryDisk]) -> None:
    vault, source = place
    disk, session = opened(vault)
    runs = list(disk.extents(0, disk.size))
    assert sum(run.length for run in runs) == disk.size == source.size
    assert [run.kind for run in runs[:2]] == [ExtentKind.DATA, ExtentKind.UNALLOCATED]
    assert [run.kind for run in disk.extents(11 * BLOCK, 1)] == [ExtentKind.ZERO]
    assert disk.dirty(0, 1) is None
    assert session.frames <= 1, "no data is read for it"
    for offset, length in ((-1, 1), (0, disk.size + 1), (disk.size, 1)):
        with pytest.raises(UsageError):
            disk.read_into(offset, memoryview(bytearray(length)))
        with pytest.raises(UsageError):
            list(disk.extents(offset, length))
    disk.close()


def test_what_is_read_again_is_kept_within_the_bound(place: tuple[DisksVault, MemoryDisk]) -> None:
    disk, session = opened(place[0], cache_bytes=8 * BLOCK, ahead_blocks=0)
    for _ in range(5):
        read(disk, 2 * BLOCK + 5, 100)
        read(disk, 8 * BLOCK, 100)
    assert session.frames <= 2 + 1
    for block in range(0, BLOCKS, 2):
        read(disk, block * BLOCK, 10)
    assert len(disk._chunks) <= 8
    before = session.frames
    read(disk, 2 * BLOCK, 10)
    assert session.frames == before + 1
    disk.close()


def test_reading_onwards_fetches_ahead(place: tuple[DisksVault, MemoryDisk]) -> None:
    disk, session = opened(place[0], ahead_blocks=8)
    for offset in range(0, 4 * BLOCK, BLOCK // 2):
        read(disk, offset, BLOCK // 2)
    disk._pool.submit(int).result()
    disk.close()
    assert session.frames >= 1 + 2 + 3


def test_who_reads_all_of_it_calls_the_vault_a_few_times(
    place: tuple[DisksVault, MemoryDisk],
) -> None:
    vault, source = place
    disk, session = opened(vault, whole=True)
    for offset in (3 * BLOCK, 0, 60 * BLOCK, 30 * BLOCK):
        assert read(disk, offset, BLOCK) == source.content[offset : offset + BLOCK]
    assert read(disk, 0, disk.size) == source.content
    disk.close()
    assert BLOCKS // 2 <= session.frames <= BLOCKS // 2 + 4, "each chunk once"
    assert session.calls <= 8


def test_many_readers_fetch_a_chunk_once(place: tuple[DisksVault, MemoryDisk]) -> None:
    vault, source = place
    disk, session = opened(vault, ahead_blocks=0)
    wrong: list[int] = []

    def reader(start: int) -> None:
        for step in range(40):
            offset = (start * 7 + step) % 40 * BLOCK
            if read(disk, offset, BLOCK) != source.content[offset : offset + BLOCK]:
                wrong.append(offset)

    readers = [threading.Thread(target=reader, args=(number,)) for number in range(6)]
    for one in readers:
        one.start()
    for one in readers:
        one.join()
    disk.close()
    assert wrong == []
    assert session.frames <= 20 + 1


def test_a_failed_fetch_is_told_and_tried_again(place: tuple[DisksVault, MemoryDisk]) -> None:
    vault, source = place
    disk, session = opened(vault)
    read(disk, 0, 1)
    session.fails = True
    with pytest.raises(IntegrityError):
        read(disk, 4 * BLOCK, 10)
    session.fails = False
    assert read(disk, 4 * BLOCK, 10) == source.content[4 * BLOCK : 4 * BLOCK + 10]
    disk.close()


def test_nobody_waits_for_a_disk_that_was_closed(place: tuple[DisksVault, MemoryDisk]) -> None:
    vault, _ = place
    disk, _ = opened(vault)
    disk.close()
    for start in (0, 14):  # the second is of blocks the first would have brought in a later part
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read, disk, start * BLOCK, (16 - start) * BLOCK)
            with pytest.raises(UsageError) as failed:
                reading.result(30)
            assert failed.value.code == "DiskClosed"


def test_a_restore_reads_only_its_own_point(place: tuple[DisksVault, MemoryDisk]) -> None:
    session = place[0].open().source._transport  # type: ignore[attr-defined]
    with pytest.raises(AccessError):
        session.locate(b"\1" * 32)
