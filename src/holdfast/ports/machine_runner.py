"""Running machines on disks that are still in the vault: overlays, starting, moving, ending.

A machine is known by its *home*, a folder with a short path that is its owner's alone: its sockets
are there. It goes on running when the program that started it ends, and is reached again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from holdfast.ports.hypervisor import Startup


@dataclass(frozen=True, slots=True)
class RunDisk:
    """``path``: the image the machine writes. ``socket`` and ``export``: where what it was not
    written yet is read (NBD), for an overlay; None for an image of its own. ``size`` in bytes."""

    lun: int
    path: Path
    size: int
    socket: Path | None = None
    export: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """The user machines run as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A machine to start: without any network, and with a screen. ``owner``: None for our own
    user."""

    name: str
    uuid: str
    home: Path
    disks: Sequence[RunDisk]
    startup: Startup = field(default_factory=Startup)
    cpus: int = 1
    memory: int = 1 << 30
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The copying of a disk. ``ready``: all is copied, and what is written goes to both;
    ``problem``: why it ended early, "" when it did not."""

    lun: int
    done: int
    total: int
    ready: bool = False
    problem: str = ""


class RunningMachine(Protocol):
    """A machine that runs. SourceError (MachineLost) when it ended, from any call."""

    @property
    def status(self) -> str:
        """``running``, ``paused``, ``io-error`` (a disk could not be read or written) ..."""
        ...

    def resume(self) -> None:
        """Let it go on after ``io-error``."""
        ...

    def answers(self) -> bool:
        """Whether the guest's agent answers now; takes a few seconds at most."""
        ...

    def run(self, script: str, seconds: float, check: Callable[[], None]) -> tuple[int | None, str]:
        """The exit code of a shell script in the guest and what it printed; None: it did not end in
        time, or the agent does not run scripts. ``check`` is called again and again meanwhile; what
        it raises ends the waiting."""
        ...

    def screenshot(self, path: Path) -> None:
        """Write what its screen shows, as PNG."""
        ...

    def attached(self) -> dict[int, str]:
        """LUN to the image file the disk is in now."""
        ...

    def move(self, lun: int, target: Path) -> None:
        """Begin to copy a disk to ``target`` (an image made by ``MachineRunner.image``), or go on
        with it when it was begun. SourceError (HypervisorRefused)."""
        ...

    def moves(self) -> list[Move]: ...

    def switch(self, lun: int) -> None:
        """Let the machine use the copy from now on, and give up the old image. Only when it is
        ``ready``. SourceError."""
        ...

    def stop_moving(self) -> None:
        """Give up copies that were begun; the machine goes on with its old images."""
        ...

    def end(self) -> None:
        """End the machine at once, as a power cut would."""
        ...

    def close(self) -> None:
        """Let go of it; it runs on."""
        ...


class MachineRunner(Protocol):
    """Starts machines of this host."""

    def image(self, path: Path, size: int, backing: tuple[Path, str] | None) -> None:
        """Make an empty image; ``backing``: socket and export of what it lies over. TargetError."""
        ...

    def start(self, plan: RunPlan) -> RunningMachine:
        """SourceError (MachineNotStarted) with what the hypervisor said."""
        ...

    def reach(self, plan: RunPlan) -> RunningMachine | None:
        """The machine of that home, if it runs."""
        ...

    def is_named(self, uuid: str) -> bool:
        """Whether the host's settings name that machine themselves."""
        ...

    def show(self, plan: RunPlan) -> None:
        """Have it among the host's machines from now on, so that it can be backed up; again when
        its disks have changed."""
        ...

    def forget(self, uuid: str) -> None:
        """It is none of the host's machines any more. Idempotent."""
        ...

    def hold(self, uuid: str) -> AbstractContextManager[None]:
        """No backup of it begins while this lasts. ConflictError (SnapshotInProgress) when one is
        under way."""
        ...
