"""What keeps copies of disks from being made, with images that answer as they are told to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.agent.vm.kept.records import Kept
from holdfast.agent.vm.kept.taking import CopyTaking
from holdfast.ports.hypervisor import Disk
from holdfast.ports.image_copy import ImageCopy, Mark, NotCopiedError, Room

DISKS = [Disk(lun, f"disk{lun}", f"/vm/disk{lun}", "raw", 1 << 20, "mark") for lun in (-1, 0)]
MARK = Mark(1, 1 << 20, 2, 3)
GIB = 1 << 30


class Copy:
    def __init__(self, rounds: list[float | Exception]) -> None:
        self.rounds, self.dropped, self.closed = rounds, False, False

    def follow(self) -> float:
        told = self.rounds.pop(0) if self.rounds else 0.001
        if isinstance(told, Exception):
            raise told
        return told

    def ready(self) -> None:
        """Nothing to look up."""

    def finish(self) -> Mark:
        return MARK

    def drop(self) -> None:
        self.dropped = True

    def close(self) -> None:
        self.closed = True


class Images:
    """``rounds``: how long each look at a disk takes, or what it fails with."""

    def __init__(self, *rounds: float | Exception, free: int = 50 * GIB) -> None:
        self.rounds, self.free = rounds, free
        self.made: list[Copy] = []

    def begin(self, disk: Disk, name: str) -> tuple[Path, ImageCopy]:
        made = Copy(list(self.rounds))
        self.made.append(made)
        return Path(disk.path).parent / name, made

    def room(self, folder: Path) -> Room:
        return Room(self.free, 100 * GIB, 1)


def taking(images: Images) -> CopyTaking:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    kept = Kept(token="t1", uuid="u", job="j", taken_at=now, until=now)
    notes: list[Kept] = []
    return CopyTaking(images, kept, notes.append)  # type: ignore[arg-type]


def run(images: Images, *, runs: bool = True) -> CopyTaking:
    made = taking(images)
    made.prepare(DISKS, runs=runs)
    made.take()
    return made


def refused(made: CopyTaking, images: Images) -> bool:
    """Nothing was kept, and nothing is left or held open."""
    return made.finish() == () and all(copy.dropped and copy.closed for copy in images.made)


def test_copies_that_come_near_quickly_are_kept() -> None:
    images = Images(2.0, 0.01)
    made = run(images)
    assert [(disk.lun, disk.mark) for disk in made.finish()] == [(-1, MARK), (0, MARK)]
    assert made.why_not == ""
    assert not any(copy.dropped for copy in images.made)
    assert all(copy.closed for copy in images.made)


def test_a_guest_does_not_stand_still_for_them_for_long() -> None:
    images = Images(*[0.02] * 9)  # of each of two disks
    made = run(images)
    assert "another 40 ms" in made.why_not
    assert refused(made, images)
    assert len(images.made[0].rounds) == 5, "and the moment itself looked at nothing"


def test_of_a_machine_that_is_off_it_may_take_its_time() -> None:
    assert len(run(Images(5.0, 5.0), runs=False).finish()) == 2


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), NotCopiedError("no")])
def test_what_fails_in_the_moment_leaves_nothing_and_the_backup_alone(error: Exception) -> None:
    images = Images(0.01, error)
    made = run(images)
    assert made.why_not in ("Input/output error", "no")
    assert refused(made, images)


def test_a_machine_that_went_on_by_itself_has_none() -> None:
    images = Images()
    made = run(images)
    made.spoil("somebody let the machine go on meanwhile")
    assert refused(made, images)


def test_where_room_is_short_none_is_begun() -> None:
    images = Images(free=5 * GIB)
    made = run(images)
    assert "which the guests need" in made.why_not
    assert (made.finish(), images.made) == ((), [])


def test_a_hypervisor_that_gives_no_moment_is_the_reason() -> None:
    made = taking(Images())
    assert made.finish() == ()
    assert "no moment" in made.why_not
