"""The appliance as a process: QEMU without network, files or privileges, over disks that are served
to it. All it holds are descriptors it was given; it dies with the agent."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from holdfast.adapters.appliance.image import ApplianceImage
from holdfast.adapters.appliance.packages import unavailable

log = logging.getLogger("holdfast.appliance")
QEMU, MAKER = "qemu-system-x86_64", "qemu-img"
KERNEL_WORDS = (
    "console=ttyS0 quiet panic=-1 mitigations=off tsc=unstable no_timer_check random.trust_cpu=on "
    "rdinit=/init"
)
MEMORY_MIB = 256
LAYER_BYTES = 1 << 30  # of what replayed journals write, over all disks
LEAST_LAYER = 64 << 20  # for one disk, however many there are
NOBODY = 65534
MAX_DISKS = 26
LAST_WORDS = 4000  # [bytes] of its console that are told


@dataclass(frozen=True, slots=True)
class ServedDisk:
    """``name``: how its volumes are called (20 letters at most). ``socket``: speaks NBD; QEMU's
    end. ``export``: its name there."""

    name: str
    export: str
    size: int
    socket: socket.socket


class ApplianceMachine:
    """One that runs, from its making until ``close``. SourceError (ApplianceUnavailable)."""

    def __init__(self, image: ApplianceImage, disks: Sequence[ServedDisk]) -> None:
        if missing := [name for name in (QEMU, MAKER) if shutil.which(name) is None]:
            raise unavailable(f"these programs are missing: {', '.join(missing)}")
        if len(disks) > MAX_DISKS:
            raise unavailable(f"{len(disks)} disks are more than the {MAX_DISKS} it can have")
        self.port, inner = socket.socketpair()
        try:
            with ExitStack() as ending:
                ending.callback(inner.close)
                self._process = self._start(image, disks, inner, ending)
        except OSError as error:
            self.port.close()
            raise unavailable(f"QEMU could not be started: {error.strerror}") from error
        except BaseException:
            self.port.close()
            raise
        self._console = _Console(self._process)

    @staticmethod
    def _start(
        image: ApplianceImage,
        disks: Sequence[ServedDisk],
        inner: socket.socket,
        ending: ExitStack,
    ) -> subprocess.Popen[bytes]:
        kernel, initrd = (_opened(path, ending) for path in (image.kernel, image.initrd))
        layers = [_layer(disk.size, image.place, ending) for disk in disks]
        words = [*_shut_in(), QEMU, *_machine(kernel, initrd, inner.fileno())]
        for disk, layer in zip(disks, layers, strict=True):
            words += _disk(disk, layer)
        given = [kernel, initrd, inner.fileno(), *layers, *(one.socket.fileno() for one in disks)]
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=given,
            preexec_fn=partial(_limit, layer_bytes(len(disks))),  # noqa: PLW1509 - system calls
            cwd="/",
            env={"PATH": os.environ.get("PATH", "")},
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def last_words(self) -> str:
        """The end of what QEMU and the kernel in it said."""
        return self._console.last()

    def close(self) -> None:
        """Kill it; idempotent."""
        with suppress(OSError):
            self.port.shutdown(socket.SHUT_RDWR)
        self._process.kill()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            log.warning("the appliance (process %d) was killed and has not ended", self.pid)
        self.port.close()


class _Console:
    """What a process says: as long as it says something it is read, and only the end is kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._said = b""
        self._thread = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while piece := os.read(pipe.fileno(), 65536):
                self._said = (self._said + piece)[-LAST_WORDS:]

    def last(self) -> str:
        self._thread.join(1)  # a process that has just ended may not be read to its end
        return " ".join(self._said.decode(errors="replace").split())


def _machine(kernel: int, initrd: int, port: int) -> list[str]:
    """KVM is not asked for: its device may open where the processor cannot do it."""
    privileged = "children" if os.geteuid() == 0 else "deny"
    rules = f"on,obsolete=deny,elevateprivileges={privileged},spawn=deny,resourcecontrol=deny"
    return [
        *("-M", "pc,usb=off,vmport=off", "-accel", "tcg", "-cpu", "qemu64", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-sandbox", rules, "-serial", "stdio"),
        *("-kernel", f"/proc/self/fd/{kernel}", "-initrd", f"/proc/self/fd/{initrd}"),
        *("-append", KERNEL_WORDS),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=port,fd={port}"),
        *("-device", "virtserialport,chardev=port,name=holdfast"),
    ]


def _disk(disk: ServedDisk, layer: int) -> list[str]:
    """A layer that takes writes, over the disk, which is read only."""
    served = {
        "driver": "nbd",
        "node-name": f"under-{disk.name}",
        "server": {"type": "fd", "str": str(disk.socket.fileno())},
        "export": disk.export,
        "read-only": True,
    }
    over = {
        "driver": "qcow2",
        "node-name": disk.name,
        "file": {"driver": "file", "filename": f"/dev/fdset/{layer}", "locking": "off"},
        "backing": f"under-{disk.name}",
        "discard": "ignore",
    }
    device = f"virtio-blk-pci,drive={disk.name},serial={disk.name}"
    words = ["-add-fd", f"fd={layer},set={layer}", "-blockdev", json.dumps(served)]
    return [*words, "-blockdev", json.dumps(over), "-device", device]


def layer_bytes(disks: int) -> int:
    """How long the layer of each disk may grow."""
    return max(LAYER_BYTES // max(1, disks), LEAST_LAYER)


def _layer(size: int, place: Path, ending: ExitStack) -> int:
    """A descriptor of a nameless file in ``place`` that is an empty qcow2 image."""
    with tempfile.NamedTemporaryFile(prefix="holdfast-layer-", dir=place) as file:
        words = (
            MAKER,
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "lazy_refcounts=on",
            file.name,
            str(size),
        )
        try:
            done = subprocess.run(words, capture_output=True, check=False, timeout=60)
        except subprocess.TimeoutExpired as error:
            raise unavailable(f"{MAKER} did not end within {error.timeout:.0f} seconds") from error
        if done.returncode != 0:
            raise unavailable(f"qemu-img failed: {done.stderr.decode(errors='replace').strip()}")
        fd = os.open(file.name, os.O_RDWR | os.O_CLOEXEC)
    ending.callback(os.close, fd)
    return fd


def _opened(path: Path, ending: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    ending.callback(os.close, fd)
    return fd


def _shut_in() -> list[str]:
    """As nobody, when we are root; the kernel ends it when this process dies."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    words = [setpriv, "--no-new-privs", "--pdeathsig", "KILL"]
    if os.geteuid() == 0:
        words += ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        words += ["--bounding-set", "-all", "--inh-caps", "-all"]
    return words


def _limit(most: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    most = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
