"""The test guest as a machine of libvirt's embedded driver: no daemon, nothing of the host's."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from holdfast.adapters.hypervisor.libvirt import library
from holdfast.adapters.hypervisor.libvirt.agent import LibvirtAgent
from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.adapters.hypervisor.qemu.guest_agent import AgentSilentError, GuestAgent
from holdfast.testing.guest.build import GuestFiles, build_guest
from holdfast.testing.guest.machine import KERNEL_WORDS, MEMORY_MIB, READY, GuestMachine
from holdfast.testing.wait import eventually

SETTINGS = """user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
"""
DAEMON = """unix_sock_dir = "{run}"
unix_sock_rw_perms = "0700"
auth_unix_rw = "none"
auth_unix_ro = "none"
listen_tls = 0
log_outputs = "2:file:{log}"
"""
LOG_SOCKET = Path("/run/libvirt/virtlogd-sock")  # libvirtd looks for it nowhere else
DRIVER = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so")
QEMU_USER = "libvirt-qemu"


def missing_for_libvirt() -> list[str]:
    """What embedded libvirt needs and this machine lacks."""
    lacking = [] if library.installed() else ["python3-libvirt"]
    lacking += [] if DRIVER.exists() else ["libvirt-daemon-driver-qemu"]
    lacking += [] if os.geteuid() == 0 else ["root"]
    try:
        pwd.getpwnam(QEMU_USER)
    except KeyError:
        lacking.append(f"the user {QEMU_USER}")
    return lacking


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[Connection]:
    """A libvirt daemon of our own, as hosts have one: QEMU runs as another user than the agent, and
    machines outlive who backs them up. ``folder`` has a short path; its files are made reachable
    for that user."""
    folder.chmod(0o711)
    run = folder / "run"
    run.mkdir(mode=0o755)
    config = folder / "libvirtd.conf"
    config.write_text(DAEMON.format(run=run, log=folder / "libvirtd.log"))
    socket = run / "libvirt-sock"
    with contextlib.ExitStack() as ending:
        if not LOG_SOCKET.is_socket():
            ending.enter_context(_program(folder, "virtlogd", LOG_SOCKET))
        ending.enter_context(_program(folder, "libvirtd", socket, "--config", str(config)))
        yield Connection(f"qemu+unix:///system?socket={socket}")


@contextlib.contextmanager
def _program(folder: Path, name: str, socket: Path, *words: str) -> Iterator[None]:
    """One of libvirt's daemons, from its socket's coming on."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
    command = [name, "--pid-file", str(folder / f"{name}.pid"), *words]
    with (folder / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        eventually(lambda: process.poll() is not None or socket.is_socket(), f"{name}'s socket")
        yield
    finally:
        process.terminate()
        process.wait(30)


def embedded(root: Path) -> Connection:
    """libvirt in this process, which takes one such folder only."""
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc" / "qemu.conf").write_text(SETTINGS)
    return Connection(f"qemu:///embed?root={root}")


@dataclass
class LibvirtGuest(GuestMachine):
    """``libvirt``: where it is defined, which is done by ``boot``. ``copies_kernel``: into the
    guest's folder, where another user gets to it."""

    libvirt: Connection | None = None
    copies_kernel: bool = False

    @property
    def _host(self) -> Connection:
        assert self.libvirt is not None
        return self.libvirt

    @property
    def domain(self) -> Any:
        return self._host.domain(self.uuid)

    @property
    def running(self) -> bool:
        return bool(self.domain.isActive())

    def boot(self, files: GuestFiles | None = None, *, wait: bool = True) -> None:
        (self.folder / "console.log").unlink(missing_ok=True)
        if self.copies_kernel:
            files = self._copied(files or build_guest())
        self._host.get().defineXML(self._xml(files or build_guest()))
        self.domain.create()
        if wait:
            self.wait_ready()

    def _copied(self, files: GuestFiles) -> GuestFiles:
        made = GuestFiles(self.folder / "vmlinuz", self.folder / "initrd.cpio")
        shutil.copy(files.kernel, made.kernel)
        shutil.copy(files.initrd, made.initrd)
        return made

    def wait_ready(self) -> None:
        eventually(lambda: self.running and READY in self.console, "the guest is up", seconds=90)
        if "agent=no" not in self.words:
            eventually(self._agent_answers, "the agent answers", seconds=30)

    def _agent_answers(self) -> bool:
        with contextlib.suppress(AgentSilentError):
            self.channel().close()
            return True
        return False

    def channel(self) -> GuestAgent:
        return LibvirtAgent(self._host, self.domain)

    def control(self, command: str, **arguments: Any) -> Any:
        domain = self.domain
        if command == "stop":
            return domain.suspend()
        if command == "cont":
            return domain.resume()
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        text = json.dumps({"execute": command, "arguments": named})
        return json.loads(self._host._qemu.qemuMonitorCommand(domain, text, 0))["return"]

    def quit(self) -> None:
        """An orderly end of QEMU; the guest is not asked."""
        if self.running:
            self.domain.destroyFlags(self._host.libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)

    def kill(self) -> None:
        """SIGKILL; idempotent."""
        with contextlib.suppress(self._host.error):
            for process in self._processes():
                os.kill(process, signal.SIGKILL)
            eventually(lambda: not self.running, "libvirt sees its end", every=0.02)

    def _processes(self) -> Iterator[int]:
        """The QEMU of this guest."""
        mark = f"uuid\0{self.uuid}".encode()
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if mark in place.read_bytes():
                    yield int(place.parent.name)

    def undefine(self) -> None:
        """Away with it, running or not."""
        libvirt = self._host.libvirt
        self.kill()
        for one in self.domain.listAllCheckpoints():
            one.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
        self.domain.undefine()

    def _xml(self, files: GuestFiles) -> str:
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type={quoteattr(disk.driver)}/>"
            f"<source file={quoteattr(str(disk.path))}/><target dev='vd{letter}' bus='virtio'/>"
            "</disk>"
            for disk, letter in zip(self.disks, "abcdefgh", strict=False)
        )
        return (
            f"<domain type='qemu'><name>{escape(self.name)}</name><uuid>{self.uuid}</uuid>"
            f"<memory unit='MiB'>{MEMORY_MIB}</memory><vcpu>1</vcpu>"
            "<os><type arch='x86_64' machine='pc'>hvm</type>"
            f"<kernel>{files.kernel}</kernel><initrd>{files.initrd}</initrd>"
            f"<cmdline>{KERNEL_WORDS} {escape(self.words)}</cmdline></os>"
            "<cpu mode='custom' match='exact'><model>qemu64</model></cpu>"
            "<on_reboot>destroy</on_reboot><devices>"
            f"<emulator>/usr/bin/qemu-system-x86_64</emulator>{disks}"
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            f"<serial type='file'><source path='{self.folder}/console.log'/></serial>"
            "<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"
        )
