"""Machines of a hypervisor host, and one point in time of their disks to read from.

A backup of a machine goes: ``settle`` (tidy up what an interrupted one left) · ``begin`` (freeze,
one point in time over all disks, thaw) · read every disk's export over NBD · commit the recovery
point in the vault and the catalog · ``Snapshot.commit``. When it fails: ``Snapshot.rollback``.

Dirty bitmaps are rotated in two phases. ``begin`` stops the bitmap of the last recovery point and
starts one for the new; both exist until commit drops the old one, or rollback joins the new one
into the old. Each is named after the *token* of its recovery point, so after a crash of anything
the catalog's word (which token is committed) is enough for ``settle`` to go on in either direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Protocol

from holdfast.domain.guest_pace import Counts
from holdfast.errors import NotFoundError

OS_DISK_LUN = -1  # as in Azure Backup: the operating system's disk; data disks count from 0


class PowerState(Enum):
    """``UNREACHABLE``: it runs (its images are in use), but its monitor does not answer."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    UNREACHABLE = "unreachable"


class AgentState(Enum):
    """Of the guest agent. ``MISSING``: not installed or not started; ``SILENT``: there, and does
    not answer; ``UNKNOWN``: the machine is off, or has no agent channel."""

    READY = "ready"
    SILENT = "silent"
    MISSING = "missing"
    UNKNOWN = "unknown"


class Consistency(IntEnum):
    """How good the point in time is; more is better."""

    CRASH = 1
    FILE_SYSTEM = 2
    APPLICATION = 3

    @property
    def azure_name(self) -> str:
        """``recoveryPointType`` of Azure Backup."""
        return {1: "CrashConsistent", 2: "FileSystemConsistent", 3: "AppConsistent"}[self]


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of a machine. ``lun``: see OS_DISK_LUN. ``format``: qcow2 or raw. ``size`` in bytes as
    the guest sees it. ``identity`` changes when another image takes the place of this one."""

    lun: int
    name: str
    path: str
    format: str
    size: int
    identity: str


@dataclass(frozen=True, slots=True)
class Startup:
    """How a machine is started, beside its disks. ``model``: of the board, as the hypervisor names
    it; ``kernel``, ``initrd``: files of the host, when it is not started from its disks, and
    ``words`` the kernel's command line."""

    model: str = ""
    kernel: str = ""
    initrd: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of this host. ``id``: its UUID in lower case. ``firmware``: bios, uefi or empty;
    ``cpus`` and ``memory`` (bytes) are 0 when unknown, as for a machine that is off. ``problem``:
    why it cannot be backed up now, or empty. ``system``: the guest's operating system, linux,
    windows or empty. ``writes``: what the guest wrote until now, of each of its disks that runs."""

    id: str
    name: str
    power: PowerState
    agent: AgentState
    disks: tuple[Disk, ...]
    firmware: str = ""
    cpus: int = 0
    memory: int = 0
    problem: str = ""
    system: str = ""
    startup: Startup = Startup()
    writes: Counts = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """``best``: the level to try for. ``at_least``: below it ``begin`` fails, and ``asker`` says in
    words who wants it so."""

    best: Consistency = Consistency.APPLICATION
    at_least: Consistency = Consistency.CRASH
    asker: str = "its protection"


@dataclass(frozen=True, slots=True)
class Parent:
    """What the catalog knows of a disk at the recovery point the increment is taken against."""

    token: str
    identity: str


@dataclass(frozen=True, slots=True)
class Generations:
    """``token``: of the recovery point to be taken, 1 to 64 of a-z 0-9 and "-", used once.
    ``parents``: by LUN; a disk that is not in it is read in full."""

    token: str
    parents: Mapping[int, Parent]


@dataclass(frozen=True, slots=True)
class SnapshotOutcome:
    """What is recorded on the recovery point. ``reason``: why the level is not higher, or how it
    was reached. ``code``: a stable name when something went wrong, as Azure's
    ``Pre-ScriptExecutionFailed``; empty otherwise. ``freeze_ms``: file systems frozen;
    ``stop_ms``: virtual CPUs stopped; both 0 when not done."""

    level: Consistency
    reason: str
    code: str = ""
    frozen: int = 0
    thawed: int = 0
    freeze_ms: float = 0.0
    stop_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class DiskExport:
    """Where a disk of the point in time is read: NBD over the unix socket ``socket``, read-only.

    ``dirty_context``: the NBD metadata context whose bit 0 marks what changed since the parent;
    what lies past the parent's size counts as changed. All of the disk can be read. None: no dirty
    information; read what ``base:allocation`` does not show as zero and compare; ``why_full`` says
    why.
    """

    disk: Disk
    socket: str
    export: str
    dirty_context: str | None
    why_full: str


@dataclass(frozen=True, slots=True)
class ScratchUse:
    """The area that keeps what the guest overwrites meanwhile, in bytes, over all disks. At
    ``warning`` it is more than four fifths full; at ``broken`` the point in time is lost."""

    used: int
    budget: int
    warning: bool
    broken: bool


class AtRest(Protocol):
    """Something that is done with a machine's images in its point in time, while nothing writes to
    them. Nothing here raises: the backup goes on whatever becomes of it."""

    def prepare(self, disks: Sequence[Disk], *, runs: bool) -> None:
        """Before the guest is frozen, so it may take its time. ``runs``: virtual CPUs stand still
        for ``take``."""
        ...

    def take(self) -> None:
        """Until this returns nothing writes to the images, and what was written is in them."""
        ...

    def spoil(self, why: str) -> None:
        """It was not so after all."""
        ...


class Snapshot(Protocol):
    """A point in time, held until commit or rollback. Safe to use from several threads."""

    @property
    def token(self) -> str: ...

    @property
    def outcome(self) -> SnapshotOutcome: ...

    @property
    def exports(self) -> tuple[DiskExport, ...]:
        """In the order the disks were given."""
        ...

    def scratch(self) -> ScratchUse:
        """How full the scratch area is. Cheap; ask it every few seconds."""
        ...

    def guest_writes(self) -> Counts:
        """What the guest wrote so far, of all its disks. Cheap; empty when the machine is off, or
        the point in time has ended. SourceError."""
        ...

    def check(self) -> None:
        """Raise SourceError (ScratchFull, MachineLost) when the point in time cannot be read any
        more, with what happened and what to do. Call it after an error of a read too."""
        ...

    def commit(self) -> None:
        """The recovery point is durable: give up the point in time and the parent's bitmaps.
        Idempotent. SourceError when the machine is lost; ``settle`` does it later."""
        ...

    def rollback(self) -> None:
        """The backup failed: give up the point in time; the next increment is taken against the
        same parent again. Idempotent. SourceError as for commit."""
        ...


class Hypervisor(Protocol):
    """Safe to use from several threads; one snapshot of a machine at a time."""

    def machines(self) -> list[Machine]:
        """All machines of the host, by name. One that cannot be asked is listed with what is known
        and its ``problem``."""
        ...

    def begin(
        self,
        machine: str,
        disks: Sequence[int],
        wish: Wish,
        bitmaps: Generations,
        at_rest: AtRest | None = None,
    ) -> Snapshot:
        """One point in time over the disks of these LUNs; the guest runs on before it returns.
        ``at_rest`` is not called where nothing stops the writes to the images.

        NotFoundError (MachineNotFound, DiskNotFound), ConflictError (SnapshotInProgress: settle
        first), LimitError (ScratchTooSmall), SourceError (MachineUnreachable,
        ConsistencyNotReached, a code of Azure's script framework, ...). After an error nothing is
        left in the machine.
        """
        ...

    def clear(self, machine: str) -> None:
        """Remove what an interrupted backup left in the machine and on the host, but for bitmaps:
        these wait for ``settle``, which knows what was committed. For an agent that starts: until
        then each write of the guest is done twice. Idempotent. Errors as for ``settle``."""
        ...

    def settle(self, machine: str, committed: str | None) -> None:
        """Remove what an interrupted backup left in the machine and on the host, and bring its
        bitmaps to ``committed``, the token of its newest recovery point (None: there is none).
        Idempotent; does nothing to bitmaps that are not ours. ConflictError (SnapshotInProgress)
        while this process holds a snapshot of the machine."""
        ...


def unknown_machine(machine: str) -> NotFoundError:
    """What a hypervisor raises for a machine it does not have."""
    return NotFoundError(
        f"this host has no machine {machine}",
        code="MachineNotFound",
        hint="name it in the agent's settings, or see whether it moved to another host",
    )
