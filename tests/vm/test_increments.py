"""Points in time of a guest that goes on writing, compared byte for byte."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu import taking
from holdfast.ports.hypervisor import Consistency, PowerState, Snapshot
from holdfast.testing.guest import dirty

MIB = 1024 * 1024
OVERWRITE = (
    "dd if=/dev/urandom of=/mnt/b/base bs=64k count=40 seek={} conv=notrunc,fsync 2>/dev/null"
)


class Witness:
    """Takes the truth in the very moment of the point in time: CPUs stopped, bitmaps turned."""

    def __init__(self, place: Any, patch: pytest.MonkeyPatch) -> None:
        self.seen: dict[int, bytes] = {}
        turn = taking._rotate

        def rotate(*given: Any) -> None:
            turn(*given)
            self.seen = {lun: place.truth(lun) for lun in place.luns}

        patch.setattr(taking, "_rotate", rotate)


def _backup_under_fire(place: Any, seek: int) -> tuple[Snapshot, list[int]]:
    """A backup during which the guest overwrites what is being read."""
    snapshot = place.begin()
    writer = threading.Thread(target=place.guest.shell, args=(OVERWRITE.format(seek),))
    writer.start()
    writer.join()
    return snapshot, place.finish(snapshot)


def test_full_and_increments_while_the_guest_writes(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = Witness(place, monkeypatch)
    for number in range(4):
        place.guest.shell(f"echo {number} >> /mnt/a/journal; sync")
        snapshot, read = _backup_under_fire(place, number * 30)
        assert place.copies() == witness.seen, f"backup {number}"
        assert snapshot.outcome.level is Consistency.FILE_SYSTEM
        assert (snapshot.outcome.frozen, snapshot.outcome.thawed) == (2, 2)
        if number:
            assert sum(read) < 8 * MIB, "an increment reads what changed"
        assert place.nothing_left()
        assert place.bitmaps() == {snapshot.token}
    assert place.guest.status == "running"


def test_a_failed_backup_loses_nothing(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = Witness(place, monkeypatch)
    _backup_under_fire(place, 0)
    failed = place.begin()
    place.guest.shell(OVERWRITE.format(70))
    failed.rollback()
    assert place.nothing_left()
    assert place.bitmaps() == {place.committed}
    _, read = _backup_under_fire(place, 100)
    assert place.copies() == witness.seen
    assert 0 < sum(read) < 10 * MIB


def test_the_stop_is_short_and_told(place: Any) -> None:
    place.finish(place.begin())
    snapshot = place.begin()
    outcome = snapshot.outcome
    snapshot.rollback()
    assert 0 < outcome.stop_ms < 2000  # 10 ms where nothing else runs; the machine may be busy
    assert 0 < outcome.freeze_ms < 20_000


def _whys(snapshot: Snapshot) -> list[str]:
    return [export.why_full for export in snapshot.exports]


def test_a_restart_goes_on_with_increments_and_a_power_cut_does_not(place: Any) -> None:
    place.finish(place.begin())
    place.guest.shell(OVERWRITE.format(10))
    place.guest.quit()
    place.guest.boot()
    place.guest.control("stop")
    snapshot = place.begin()
    assert _whys(snapshot) == ["", ""]
    assert sum(place.finish(snapshot)) < 8 * MIB
    assert place.copies() == {lun: place.truth(lun) for lun in place.luns}
    place.guest.quit()
    place.guest.boot()
    place.guest.kill()
    place.guest.boot()
    assert place.bitmaps() == {place.committed}
    place.guest.control("stop")
    place.hypervisor.settle(place.entry.id, place.committed)
    assert place.bitmaps() == set(), "a record that is incomplete is of no use"
    snapshot = place.begin()
    assert all(_whys(snapshot))
    place.finish(snapshot)
    assert place.copies() == {lun: place.truth(lun) for lun in place.luns}
    place.guest.control("cont")
    place.guest.shell(OVERWRITE.format(3))
    snapshot = place.begin()
    assert _whys(snapshot) == ["", ""], "and then it goes on"
    snapshot.rollback()


def test_a_power_cut_before_the_record_was_ever_stored(place: Any) -> None:
    place.finish(place.begin())
    place.guest.kill()
    place.guest.boot()
    snapshot = place.begin()
    assert all("is gone" in export.why_full for export in snapshot.exports)
    snapshot.rollback()


def test_on_and_off_share_one_chain(place: Any) -> None:
    place.finish(place.begin())
    place.guest.shell(OVERWRITE.format(10))
    place.guest.quit()
    (machine,) = place.hypervisor.machines()
    assert machine.power is PowerState.OFF
    snapshot = place.begin()
    assert snapshot.outcome.reason == "the machine was off"
    assert 2 * MIB < sum(place.finish(snapshot)) < 8 * MIB
    assert place.copies() == {lun: place.truth(lun) for lun in place.luns}
    place.guest.boot()
    place.guest.shell("echo on >> /mnt/a/journal; sync")
    snapshot = place.begin()
    assert [export.why_full for export in snapshot.exports] == ["", ""]
    place.finish(snapshot)


def test_raw_disks_have_increments_while_the_machine_runs(make: Callable[..., Any]) -> None:
    place = make(image="raw", legacy_drives=True)
    place.finish(place.begin())
    place.guest.shell("dd if=/dev/urandom of=/mnt/b/new bs=64k count=8 conv=fsync 2>/dev/null")
    snapshot = place.begin()
    assert [export.why_full for export in snapshot.exports] == ["", ""]
    assert 0 < sum(place.finish(snapshot)) < 8 * MIB
    place.guest.kill()
    place.guest.boot()
    snapshot = place.begin()
    assert all("is gone" in export.why_full for export in snapshot.exports)
    snapshot.rollback()


def test_selected_disks_only(place: Any) -> None:
    snapshot = place.begin(luns=[-1])
    assert [export.disk.lun for export in snapshot.exports] == [-1]
    place.finish(snapshot)
    snapshot = place.begin()
    assert [export.why_full for export in snapshot.exports] == ["", "first backup of this disk"]
    assert dirty(snapshot.exports[0]) is not None
    snapshot.rollback()
