"""What is kept on the host of each machine that was restored instantly: enough to go on with it
after the agent, the machine or the host was started again."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agent.vm.seen import read_startup
from holdfast.domain.path_text import decode_path, encode_path
from holdfast.files import read_small, write_whole
from holdfast.ports.machine_runner import Owner, RunDisk, RunPlan
from holdfast.ports.vm_tasks import TAG_JOB, TAG_OF, TAG_POINT, KeyRestored
from holdfast.workloads.vm.disks.values import stream_name

log = logging.getLogger("holdfast.agent")
SOCKETS, SOCKET = "vault", "nbd.sock"
DEFAULT_MEMORY = 1 << 30  # bytes; a point made while the machine was off does not know it


class KeptDisk(msgspec.Struct, kw_only=True):
    """``path``: of the image in use, as ``encode_path`` writes it; ``backed``: it lies over the
    vault; ``target``: where its copy is, once it is being moved."""

    lun: int
    path: str
    size: int
    backed: bool = True
    target: str = ""


class Record(msgspec.Struct, kw_only=True):
    """``name``, ``uuid``: its own; ``of_name``, ``of_uuid``: of the machine the point is of.
    ``job``: that serves it. ``home``: its folder. ``moved``: it does not need the vault any more.
    ``mover``: the job that moves it, ``room``: the number of the folder it is moved to.
    ``described``: the machine as the recovery point has it. ``keys``: of its encrypted volumes."""

    name: str
    uuid: str
    of_name: str
    of_uuid: str
    point: str
    job: str
    home: str
    disks: list[KeptDisk]
    described: dict[str, Any]
    ready_seconds: float | None = None
    moved: bool = False
    mover: str = ""
    room: int = 0
    keys: list[KeyRestored] = []

    @property
    def home_path(self) -> Path:
        return to_path(self.home)

    @property
    def socket(self) -> Path:
        return self.home_path / SOCKETS / SOCKET

    def missing(self) -> list[Path]:
        """Images in use that are not there now."""
        images = [to_path(disk.path) for disk in self.disks]
        return [image for image in images if not _is_there(image)]

    @property
    def is_gone(self) -> bool:
        """It was moved, and none of its images is there any more."""
        return self.moved and len(self.missing()) == len(self.disks)

    def overlay(self, lun: int) -> str:
        """Where a disk's overlay is, or was."""
        return to_text(self.home_path / f"{stream_name(lun)}.qcow2")

    def plan(self) -> RunPlan:
        return RunPlan(
            name=self.name,
            uuid=self.uuid,
            home=self.home_path,
            disks=[self._disk(disk) for disk in self.disks],
            startup=read_startup(self.described),
            cpus=_number(self.described.get("processors")) or 1,
            memory=_number(self.described.get("memoryBytes")) or DEFAULT_MEMORY,
            owner=owner_of(self.home_path.parent),
        )

    def _disk(self, disk: KeptDisk) -> RunDisk:
        socket = self.socket if disk.backed else None
        return RunDisk(disk.lun, to_path(disk.path), disk.size, socket, stream_name(disk.lun))

    def tags(self) -> dict[str, str]:
        """What the server is told beside what it is told of every machine."""
        if self.moved:
            return {}
        return {TAG_OF: self.of_name[:100], TAG_POINT: self.point, TAG_JOB: self.job}


class Records:
    """In ``folder``, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Record]:
        """Also those whose images are not there: their file system may be mounted later."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(msgspec.json.decode(read_small(path), type=Record))
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("%s is not read: %s", path, error)
        return found

    def find(self, name: str) -> Record | None:
        """Rather one that needs the vault, or is there, than one that was moved and removed."""
        found = [one for one in self.all() if one.name == name]
        return min(found, key=lambda one: one.moved + one.is_gone, default=None)

    def save(self, record: Record) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self.place(record), msgspec.json.encode(record))

    def remove(self, record: Record) -> None:
        with suppress(OSError):
            self.place(record).unlink()

    def tags(self) -> Mapping[str, dict[str, str]]:
        """By UUID."""
        return {one.uuid: one.tags() for one in self.all()}

    def place(self, record: Record) -> Path:
        """Of its file."""
        return self._folder / f"{record.uuid}.json"


def owner_of(folder: Path) -> Owner | None:
    """Whose machines lie there; None for our own."""
    try:
        found = folder.stat()
    except OSError:
        return None
    if os.geteuid() != 0 or found.st_uid == 0:
        return None
    return Owner(found.st_uid, found.st_gid)


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def to_path(text: str) -> Path:
    return Path(os.fsdecode(decode_path(text)))


def to_text(path: Path) -> str:
    return encode_path(os.fsencode(path))


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1 << 50 else 0
