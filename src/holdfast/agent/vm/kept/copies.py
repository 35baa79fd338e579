"""All local copies of a host: made with a backup, found by their point, removed by a plan."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from holdfast.agent.vm.kept.records import Kept, KeptDisk, Records
from holdfast.domain.instant_tier import Drop, Held, Space, plan_drops
from holdfast.ports.block_device import BlockSource
from holdfast.ports.clock import Clock
from holdfast.ports.image_copy import ImageCopies, NotCopiedError
from holdfast.ports.vm_tasks import KeptSeen, VmBackup

ImageReader = Callable[[Path, str], AbstractContextManager[BlockSource]]
log = logging.getLogger("holdfast.agent")


class KeptCopies:
    """Thread safe. ``folder``: where the agent notes them; ``read``: an image of a format as a
    disk."""

    def __init__(
        self, images: ImageCopies, folder: Path, clock: Clock, read: ImageReader | None = None
    ) -> None:
        self.images, self.records = images, Records(folder / "kept")
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows, and one tidying at a time
        self._busy: set[str] = set()

    def begin(self, asked: VmBackup, token: str) -> Kept:
        """The record of copies that are about to be made, which nothing removes until they are let
        go."""
        self.tidy()
        now = self._clock.now()
        until = now + timedelta(days=asked.instant_days)
        kept = Kept(token=token, uuid=asked.uuid, job=asked.job_id, taken_at=now, until=until)
        with self._lock:
            self._busy.add(token)
        return kept

    def let_go(self, token: str) -> None:
        with self._lock:
            self._busy.discard(token)

    def find(self, token: str) -> Kept | None:
        """The copies of a point in time, when they are whole and nobody touched them since."""
        for kept in self.records.all():
            if kept.token == token and self._is_standing(kept):
                return kept
        return None

    def heal(self, token: str, point: str) -> None:
        """The point in time ``token`` is in the vault as ``point``, whoever was to note that."""
        for kept in self.records.all():
            if kept.token == token and not kept.point:
                self._note_point(kept, point)

    def _note_point(self, kept: Kept, point: str) -> None:
        with suppress(OSError):
            self.records.put(msgspec.structs.replace(kept, point=point))

    def clone(self, disk: KeptDisk, target: Path) -> None:
        """A file ``target`` that holds a copy's disk. NotCopiedError, OSError."""
        if disk.mark is None:
            raise NotCopiedError("it is not whole")
        self.images.clone(disk.place, disk.mark, target)

    @contextmanager
    def opened(self, disk: KeptDisk) -> Iterator[BlockSource]:
        """A copy as a disk to read. NotCopiedError, SourceError."""
        if disk.mark is None or self._read is None:
            raise NotCopiedError("it cannot be read here")
        with (
            self.images.opened(disk.place, disk.mark) as path,
            self._read(path, disk.format) as source,
        ):
            yield source

    def told(self) -> dict[str, tuple[KeptSeen, ...]]:
        """By machine, what the server is told."""
        found: dict[str, tuple[KeptSeen, ...]] = {}
        for kept in self.records.all():
            if self._is_standing(kept):
                found[kept.uuid] = (*found.get(kept.uuid, ()), _seen(kept))
        return found

    def tidy(self) -> None:
        """Remove those whose time is over, by a plan that is told first."""
        with self._lock:
            every = {kept.token: kept for kept in self.records.all()}
            for drop in self._plan(list(every.values())):
                self._remove(every[drop.token], drop)

    def remove(self, kept: Kept, why: str) -> None:
        with self._lock:
            self._remove(kept, Drop(kept.token, why))

    def _plan(self, every: Sequence[Kept]) -> list[Drop]:
        spaces: dict[int, Space] = {}
        held = [self._held(kept, spaces) for kept in every]
        return plan_drops(held, spaces, self._clock.now(), self._busy)

    def _held(self, kept: Kept, spaces: dict[int, Space]) -> Held:
        device = 0
        for disk in kept.disks:
            with suppress(OSError):
                room = self.images.room(disk.place.parent)
                device = room.device
                spaces[device] = Space(room.free, room.total)
        return Held(
            token=kept.token,
            machine=kept.uuid,
            point=kept.point,
            job=kept.job,
            taken_at=kept.taken_at,
            until=kept.until,
            standing=kept.standing,
            device=device,
        )

    def _remove(self, kept: Kept, drop: Drop) -> None:
        """The record last: until then an interrupted removal is gone on with."""
        log.info("the local copy %s of machine %s is removed: %s", kept.token, kept.uuid, drop.why)
        try:
            for disk in kept.disks:
                self.images.remove(disk.place)
            self.records.remove(kept.token)
        except (OSError, NotCopiedError) as error:
            log.warning("the local copy %s could not be removed: %s", kept.token, error)

    def _is_standing(self, kept: Kept) -> bool:
        return kept.standing and all(
            disk.mark is not None and self.images.is_whole(disk.place, disk.mark)
            for disk in kept.disks
        )


def _seen(kept: Kept) -> KeptSeen:
    return KeptSeen(
        token=kept.token,
        point=kept.point,
        job_id=kept.job,
        taken_at=kept.taken_at.isoformat(),
        until=kept.until.isoformat(),
        consistency=kept.consistency,
        reason=kept.reason[:1000],
        luns=tuple(disk.lun for disk in kept.disks),
    )
