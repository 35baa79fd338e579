"""Disks that are open for reading on operators' machines: many readers, one slow store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.catalog.recoveries import RecoveryRow
from holdfast.errors import StoreUnavailableError
from holdfast.services import item_recovery
from holdfast.services.item_recovery import DISKS_KEPT, OpenPoints

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = 30  # seconds a test waits before it fails


class Disk:
    """Its content is its number."""

    def __init__(self, lun: int, before_read: Callable[[], None]) -> None:
        self.lun = lun
        self._before = before_read
        self.closed = threading.Event()

    def read_into(self, _offset: int, view: memoryview) -> None:
        self._before()
        assert not self.closed.is_set()
        view[:] = bytes([self.lun]) * len(view)

    def close(self) -> None:
        self.closed.set()


class Points:
    """Open points of a store where things can be held up, by the disk's number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[Disk] = []
        self.opening: dict[int, Callable[[], None]] = {}
        self.reading: dict[int, Callable[[], None]] = {}
        monkeypatch.setattr(OpenPoints, "_point", lambda *_: None)
        monkeypatch.setattr(item_recovery, "PointDisk", self._open)
        self.points = OpenPoints(None)  # type: ignore[arg-type]

    def _open(self, _point: Any, lun: int, **_: Any) -> Disk:
        self.opening.get(lun, bool)()
        self.opened.append(Disk(lun, self.reading.get(lun, bool)))  # type: ignore[arg-type]
        return self.opened[-1]

    def read(self, lun: int) -> bytes:
        row = RecoveryRow("id", "vault", "item", "point", "me", NOW, NOW, None)
        return self.points.read(row, lun, 0, 1)


class Held:
    """Something waits in it until it is let go."""

    def __init__(self) -> None:
        self.there, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.there.set()
        assert self.go.wait(PATIENCE)


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Points:
    return Points(monkeypatch)


def test_a_disk_that_opens_slowly_holds_up_no_other(points: Points) -> None:
    slow = points.opening[1] = Held()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(points.read, 1) for _ in range(2)]
        assert slow.there.wait(PATIENCE)
        assert pool.submit(points.read, 2).result(PATIENCE) == b"\2"
        slow.go.set()
        assert [one.result(PATIENCE) for one in waiting] == [b"\1", b"\1"]
    assert [disk.lun for disk in points.opened] == [2, 1], "opened once"


def test_a_disk_that_is_being_read_stays_open(points: Points) -> None:
    slow = points.reading[1] = Held()
    others = range(2, DISKS_KEPT + 4)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(points.read, 1)
        assert slow.there.wait(PATIENCE)
        for lun in others:
            assert points.read(lun) == bytes([lun])
        slow.go.set()
        assert waiting.result(PATIENCE) == b"\1"
    surplus = points.opened[1 : 1 + len(others) + 1 - DISKS_KEPT]
    assert all(disk.closed.wait(PATIENCE) for disk in surplus)
    assert not points.opened[0].closed.is_set()


def test_a_disk_that_could_not_be_opened_is_tried_again(points: Points) -> None:
    def fail() -> None:
        raise StoreUnavailableError("the store is away")

    points.opening[1] = fail
    with pytest.raises(StoreUnavailableError):
        points.read(1)
    del points.opening[1]
    assert points.read(1) == b"\1"
