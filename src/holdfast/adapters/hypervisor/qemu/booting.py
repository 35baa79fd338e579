"""Starting a machine of ours: its command line, its images, and what QEMU says when it cannot.

It reads what it has not written from an NBD server over a socket file, and waits for that server
when it is away. A disk that fails stops the guest instead of telling it, so that it goes on
unharmed when the disk is back.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import threading
import time
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from holdfast.adapters.hypervisor.qemu.drives import lun_name
from holdfast.errors import SourceError, TargetError
from holdfast.nbd.address import UnixSocket
from holdfast.ports.machine_runner import Owner, RunDisk, RunPlan

PROGRAM, TOOL = "qemu-system-x86_64", "qemu-img"
START_SECONDS, GREETING_SECONDS, LOOK_SECONDS = 60.0, 5.0, 0.05
RECONNECT_SECONDS = 7 * 86400
MIB = 1 << 20
BACKUP, CONTROL, AGENT, PID = "backup.sock", "control.sock", "agent.sock", "qemu.pid"
DEVICE, OVERLAY, SOURCE, COPY = "disk", "over", "vault", "copy"  # of names, before the LUN
BOARD = "pc"
KVM_FLAGS = {"svm", "vmx"}
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def node(kind: str, lun: int) -> str:
    return f"{kind}-{lun_name(lun)}"


def command(plan: RunPlan) -> list[str]:
    startup, home = plan.startup, plan.home
    words = [PROGRAM, "-name", plan.name, "-uuid", plan.uuid]
    words += ["-sandbox", SANDBOX] if sandboxes() else []
    words += ["-M", startup.model or BOARD, *_accelerator()]
    words += ["-smp", str(plan.cpus), "-m", f"{max(1, plan.memory // MIB)}M"]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-nic", "none"]
    if startup.kernel:
        words += ["-kernel", startup.kernel, "-append", startup.words]
        words += ["-initrd", startup.initrd] if startup.initrd else []
    for name in (BACKUP, CONTROL):
        words += ["-qmp", f"unix:{home / name},server=on,wait=off"]
    words += ["-pidfile", str(home / PID), "-device", "virtio-serial-pci"]
    words += ["-chardev", f"socket,id=qga,path={home / AGENT},server=on,wait=off"]
    words += ["-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"]
    for disk in plan.disks:
        words += _disk(disk)
    return words


def _disk(disk: RunDisk) -> list[str]:
    words: list[str] = []
    top = image_node(node(OVERLAY, disk.lun), disk.path)
    if disk.socket is not None:
        below = node(SOURCE, disk.lun)
        words += ["-blockdev", json.dumps(_source(below, disk.socket, disk.export))]
        top["backing"] = below
    device = {
        "driver": "virtio-blk-pci",
        "id": node(DEVICE, disk.lun),
        "drive": top["node-name"],
        "werror": "stop",
        "rerror": "stop",
    }
    return [*words, "-blockdev", json.dumps(top), "-device", json.dumps(device)]


def image_node(name: str, path: Path) -> dict[str, Any]:
    file = {"driver": "file", "filename": str(path)}
    return {"driver": "qcow2", "node-name": name, "file": file, "discard": "unmap"}


def _source(name: str, socket: Path, export: str) -> dict[str, Any]:
    return {
        "driver": "nbd",
        "node-name": name,
        "server": {"type": "unix", "path": str(socket)},
        "export": export,
        "read-only": True,
        "reconnect-delay": RECONNECT_SECONDS,
    }


@cache
def sandboxes() -> bool:
    """Whether this QEMU can have system calls refused to itself that it does not need, in case the
    guest, whose point may be of a foreign host, breaks out of it."""
    try:
        words = [PROGRAM, "-help"]
        told = subprocess.run(words, capture_output=True, check=False, timeout=START_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"resourcecontrol=" in told.stdout


def _accelerator() -> list[str]:
    """The device may open where the processor cannot do it, and the guest then hangs."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    if flags & KVM_FLAGS and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg"]


def start(plan: RunPlan) -> None:
    """Returns when it runs, on its own: it goes on when this process ends. SourceError
    (MachineNotStarted)."""
    said = _launch(plan)
    if said is not None:
        raise SourceError(
            f"QEMU does not start {plan.name}: {said or 'it does not say why'}",
            code="MachineNotStarted",
            hint="see whether the host has room and memory, and what the point says of the machine",
        )


def _launch(plan: RunPlan) -> str | None:
    """None when it went well, else the last it said. QEMU's own way into the background is refused
    to it by the sandbox."""
    who: dict[str, Any] = {}
    if (owner := plan.owner) is not None:
        who = {"user": owner.uid, "group": owner.gid, "extra_groups": _groups(owner)}
    quiet = subprocess.DEVNULL
    try:
        started = subprocess.Popen(
            command(plan),
            stdin=quiet,
            stdout=quiet,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **who,
        )
    except FileNotFoundError:
        return f"{PROGRAM} is not installed"
    with cast(IO[bytes], started.stderr) as errors:
        until = time.monotonic() + START_SECONDS
        while started.poll() is None and not _greets(plan.home / CONTROL):
            if time.monotonic() > until:
                started.kill()
                started.wait()
                return f"{PROGRAM} did not answer within {START_SECONDS:g} s"
        if started.returncode is not None:
            return _last(errors.read())
    threading.Thread(target=started.wait, name="machine", daemon=True).start()
    return None


def _greets(monitor: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(GREETING_SECONDS)
        try:
            peer.connect(str(monitor))
            return bool(peer.recv(1))
        except OSError:
            time.sleep(LOOK_SECONDS)
            return False


def make_image(path: Path, size: int, backing: tuple[Path, str] | None) -> None:
    """A new, empty qcow2. TargetError (TargetFull, TargetUnavailable), UsageError
    (SocketPathTooLong)."""
    words = [TOOL, "create", "-q", "-f", "qcow2", "-u"]
    if backing is not None:
        words += ["-F", "raw", "-b", UnixSocket(backing[0]).uri(backing[1])]
    said = _run([*words, str(path), str(size)])
    if said is not None:
        raise TargetError(
            f"the image {path} cannot be made: {said}",
            code="TargetFull" if "No space" in said else "TargetUnavailable",
            hint="make room there, or choose another place",
        )


def _groups(owner: Owner) -> list[int]:
    """That may use the host's virtualisation, for one."""
    try:
        return os.getgrouplist(pwd.getpwuid(owner.uid).pw_name, owner.gid)
    except KeyError:
        return []


def _run(words: list[str]) -> str | None:
    """None when it went well, else the last it said."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            check=False,
            timeout=START_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return f"{words[0]} is not installed"
    except subprocess.TimeoutExpired:
        return f"{words[0]} did not answer within {START_SECONDS:g} s"
    return None if done.returncode == 0 else _last(done.stderr)


def _last(said: bytes) -> str:
    return said.decode(errors="replace").strip().rpartition("\n")[2][-1000:]
