"""The test guest as a running QEMU: booted without virtualisation hardware, stopped by its pid.

Two monitors: ``qmp`` is the one the product is told, ``control`` belongs to the test. KVM is never
asked for: the device may open on machines whose CPU cannot do it, and the guest then hangs.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from holdfast.adapters.hypervisor.qemu.guest_agent import AgentRefusedError, GuestAgent
from holdfast.adapters.hypervisor.qemu.qmp import (
    MachineLostError,
    NobodyListensError,
    QmpConnection,
)
from holdfast.testing.guest.build import GuestFiles, build_guest
from holdfast.testing.wait import eventually

KERNEL_WORDS = "console=ttyS0 quiet panic=-1 mitigations=off tsc=unstable no_timer_check"
MEMORY_MIB = 128
READY = "GUEST-READY"
BOOT_SECONDS = 90


@dataclass(frozen=True, slots=True)
class GuestDisk:
    """An image and how QEMU opens it; ``driver``: qcow2 or raw."""

    path: Path
    driver: str = "qcow2"


@dataclass
class GuestMachine:
    """``folder``: short path, mode 0700, made by ``guest_folder``. ``words`` go on the kernel's
    command line (``agent=no``, ``writer=yes``)."""

    folder: Path
    disks: Sequence[GuestDisk]
    words: str = ""
    uuid: str = field(default_factory=lambda: str(uuid4()))
    name: str = "guest"
    legacy_drives: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _monitor: QmpConnection | None = None

    @property
    def qmp(self) -> Path:
        return self.folder / "qmp.sock"

    @property
    def agent(self) -> Path:
        return self.folder / "qga.sock"

    @property
    def console(self) -> str:
        path = self.folder / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def boot(self, files: GuestFiles | None = None, *, wait: bool = True) -> None:
        """Start it; with ``wait``, return when the guest says it is up."""
        for left in self.folder.glob("*.sock"):
            left.unlink()
        (self.folder / "console.log").unlink(missing_ok=True)
        words = self._command(files or build_guest())
        with (self.folder / "errors.log").open("wb") as errors:
            self._process = subprocess.Popen(
                _dying_with_us(words), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        atexit.register(self.kill)
        eventually(self._monitor_opened, "a monitor", every=0.02)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until the guest says it is up."""
        eventually(
            lambda: self._alive() and READY in self.console, "the guest is up", seconds=BOOT_SECONDS
        )

    def _monitor_opened(self) -> bool:
        """The socket's file is there a moment before QEMU listens on it."""
        if self._alive() and self._control_socket.is_socket():
            with contextlib.suppress(NobodyListensError):
                self._monitor = QmpConnection(self._control_socket)
        return self._monitor is not None

    def _alive(self) -> bool:
        if not self.running:
            raise AssertionError((self.folder / "errors.log").read_text() + self.console)
        return True

    @property
    def _control_socket(self) -> Path:
        return self.folder / "ctl.sock"

    def control(self, command: str, **arguments: Any) -> Any:
        """A monitor command of the test's own."""
        assert self._monitor is not None
        return self._monitor.execute(command, **arguments)

    @property
    def status(self) -> str:
        """``running``, ``paused``, ``io-error`` ..."""
        return str(self.control("query-status")["status"])

    def limit_writes(self, disk: int, writes: int) -> None:
        """Let the guest's disk of that place take so many writes a second; 0 for as many as
        come."""
        assert self._monitor is not None
        limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd"), 0)
        device = f"/machine/peripheral/vd{disk}/virtio-backend"
        self._monitor.call("block_set_io_throttle", {"id": device, "iops_wr": writes, **limits})

    def channel(self) -> GuestAgent:
        """The guest agent, for a while."""
        return GuestAgent(self.agent, timeout=30)

    def shell(self, script: str, *, seconds: float = 60) -> str:
        """What a shell script prints in the guest. AssertionError when it fails."""
        with self.channel() as agent:
            words = ["-c", script]
            pid = agent.call("guest-exec", path="/bin/sh", arg=words, capture_output=True)["pid"]

            def ended() -> dict[str, Any] | None:
                found: dict[str, Any] = agent.call("guest-exec-status", pid=pid, timeout=30)
                return found if found["exited"] else None

            state = _not_none(ended, seconds)
        said = b"".join(base64.b64decode(state.get(name, "")) for name in ("out-data", "err-data"))
        assert state.get("exitcode") == 0, f"{script}: {state} {said!r}"
        return said.decode()

    def write_pattern(self, place: str, *, count: int, skip: int = 0) -> None:
        """``count`` random blocks of 64 KiB at block ``skip`` of file ``place``, with their
        checksum kept beside it in ``PLACE.sum``."""
        self.shell(
            f"dd if=/dev/urandom of={place} bs=64k count={count} seek={skip} conv=notrunc "
            f"2>/dev/null; sha256sum {place} > {place}.sum; sync"
        )

    def patterns_hold(self, place: str) -> bool:
        """Whether the file still is what its checksum says."""
        try:
            self.shell(f"echo 3 > /proc/sys/vm/drop_caches; sha256sum -c {place}.sum")
        except (AssertionError, AgentRefusedError):
            return False
        return True

    def quit(self) -> None:
        """An orderly end of QEMU (bitmaps are stored); the guest is not asked."""
        if self.running and self._monitor is not None:
            with contextlib.suppress(MachineLostError):
                self._monitor.execute("quit")
            assert self._process is not None
            self._process.wait(20)
        self._close()

    def kill(self) -> None:
        """SIGKILL; idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)
        self._close()

    def _close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        atexit.unregister(self.kill)

    def _command(self, files: GuestFiles) -> list[str]:
        here = self.folder
        return [
            *("qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "qemu64"),
            *("-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-name", self.name, "-uuid", self.uuid),
            *("-kernel", str(files.kernel), "-initrd", str(files.initrd)),
            *("-append", f"{KERNEL_WORDS} {self.words}"),
            *("-serial", f"file:{here}/console.log"),
            *("-qmp", f"unix:{self.qmp},server=on,wait=off"),
            *("-qmp", f"unix:{self._control_socket},server=on,wait=off"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=qga,path={self.agent},server=on,wait=off"),
            *("-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"),
            *(word for at, disk in enumerate(self.disks) for word in self._disk(at, disk)),
        ]

    def _disk(self, at: int, disk: GuestDisk) -> list[str]:
        if self.legacy_drives:
            return ["-drive", f"file={disk.path},format={disk.driver},if=virtio"]
        node = {
            "driver": disk.driver,
            "node-name": f"disk{at}",
            "file": {"driver": "file", "filename": str(disk.path)},
            "discard": "unmap",
        }
        device = f"virtio-blk-pci,drive=disk{at},id=vd{at}"
        return ["-blockdev", json.dumps(node), "-device", device]


@contextlib.contextmanager
def guest_folder() -> Iterator[Path]:
    """A folder with mode 0700 whose path is short enough for sockets; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="hf-vm-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _dying_with_us(words: list[str]) -> list[str]:
    """The kernel ends it when this process dies."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *words] if setpriv else words


def _not_none(ask: Callable[[], dict[str, Any] | None], seconds: float) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def asked() -> bool:
        answer = ask()
        if answer is not None:
            found.append(answer)
        return bool(found)

    eventually(asked, "the script in the guest ends", seconds=seconds, every=0.05)
    return found[0]
