"""Making local copies of all disks of a machine, of the very moment its backup is of.

Sharing blocks takes longer the more pieces an image lies in. So copies are made while the guest
runs, and brought up to date twice; in the moment itself only what differs by then is looked up and
shared once more. How long that takes is known from the time before: when it is too long for a guest
to stand still, there is no copy, and the reason is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from holdfast.agent.vm.kept.records import Kept, KeptDisk, told_place
from holdfast.domain.instant_tier import Space, is_short
from holdfast.ports.hypervisor import OS_DISK_LUN, Disk
from holdfast.ports.image_copy import ImageCopies, ImageCopy, NotCopiedError

STOP_SECONDS = 0.03  # that copies may add to the time a guest stands still
ROUNDS = 4  # at most, of bringing copies up to date before the moment
NEVER_AT_REST = "its hypervisor gives no moment in which nothing writes to the images"


class CopyTaking:
    """See ports.hypervisor.AtRest. ``why_not``: empty when the copies were taken."""

    def __init__(self, images: ImageCopies, begun: Kept, note: Callable[[Kept], None]) -> None:
        """``note``: writes a record; what it names is removed after a crash."""
        self._images, self._begun, self._note = images, begun, note
        self._copies: list[tuple[KeptDisk, ImageCopy]] = []
        self.why_not = NEVER_AT_REST

    def prepare(self, disks: Sequence[Disk], *, runs: bool) -> None:
        self.why_not = ""
        try:
            for disk in disks:
                self._begin(disk)
            self._come_near(runs=runs)
        except (OSError, NotCopiedError) as error:
            self.spoil(_said(error))

    def take(self) -> None:
        if self.why_not:
            return
        try:
            for _, copy in self._copies:
                copy.follow()
        except (OSError, NotCopiedError) as error:
            self.spoil(_said(error))

    def spoil(self, why: str) -> None:
        self.why_not = self.why_not or why

    def finish(self) -> tuple[KeptDisk, ...]:
        """The copies, durable; none when ``why_not`` says so, and then nothing is left of them."""
        made: list[KeptDisk] = []
        if not self.why_not:
            try:
                for disk, copy in self._copies:
                    mark = copy.finish()
                    made.append(msgspec.structs.replace(disk, mark=mark))
            except OSError as error:
                self.spoil(_said(error))
        self.close()
        return () if self.why_not else tuple(made)

    def close(self) -> None:
        """Let go of the files; without a whole set they go."""
        for _, copy in self._copies:
            if self.why_not:
                copy.drop()
            copy.close()
        self._copies = []

    def _begin(self, disk: Disk) -> None:
        folder = Path(disk.path).resolve().parent
        room = self._images.room(folder)
        if is_short(Space(room.free, room.total)):
            raise NotCopiedError(
                f"its file system has {room.free >> 20:,} of {room.total >> 20:,} MiB left, which "
                "the guests need"
            )
        named = "os" if disk.lun == OS_DISK_LUN else str(disk.lun)
        name = f"{self._begun.token}-{named}.{disk.format}"
        try:
            place, copy = self._images.begin(disk, name)
        except NotCopiedError as error:
            raise NotCopiedError(f"disk {disk.name}: {error}") from error
        kept = KeptDisk(lun=disk.lun, path=told_place(place), format=disk.format, size=disk.size)
        self._copies.append((kept, copy))

    def _come_near(self, *, runs: bool) -> None:
        """Until one more round is quick. What is named by now is noted, for a crash."""
        begun = tuple(disk for disk, _ in self._copies)
        self._note(msgspec.structs.replace(self._begun, disks=begun))
        took = 0.0
        for _ in range(ROUNDS):
            took = sum(copy.follow() for _, copy in self._copies)
            for _, copy in self._copies:
                copy.ready()
            if not runs or took <= STOP_SECONDS:
                return
        raise NotCopiedError(
            f"the machine would stand still for another {took * 1000:.0f} ms, for its images "
            "lie in too many pieces or change too quickly"
        )


def _said(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else str(error)
    return text or type(error).__name__
