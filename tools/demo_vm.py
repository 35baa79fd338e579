"""A virtual machine from protection to a restored copy that boots: ``make demo-vm``.

Builds a small guest from Debian packages, boots it under QEMU (no virtualisation hardware needed)
with two disks and the real guest agent, protects it, backs it up, lets it write, takes an
increment, restores its disks, one file and a new machine, boots that, runs one from the vault at
once, moves its disks while it runs, tests the point, and cleans up behind itself.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from demo import Demo, background, console, free_port, wait_until_listening
from rich.table import Table

from holdfast.testing.guest import (
    GuestDisk,
    GuestFiles,
    GuestMachine,
    build_guest,
    cache_folder,
    flatten,
    guest_folder,
    make_disk,
    missing_tools,
)
from holdfast.testing.guest.twin import Twin, kill
from holdfast.testing.wait import eventually

GROUP, VAULT, HOST, VM, COPY, NOW, STORAGE = (
    "demo",
    "demo-vault",
    "demo-host",
    "web1",
    "web2",
    "web3",
    "restored",
)
LUNS = (-1, 0)
SETTINGS = """[[machine]]
name = "{name}"
uuid = "{uuid}"
qmp = "{qmp}"
agent = "{agent}"
"""


class VmDemo:
    """The programs' side (``demo``), and the guest."""

    def __init__(self, folder: Path, files: GuestFiles) -> None:
        self.demo, self.files = Demo(folder, folder), files
        self.folder = folder
        self.images = [make_disk(folder / f"{name}.qcow2") for name in ("root", "data")]
        disks = [GuestDisk(image) for image in self.images]
        self.guest = GuestMachine(folder, disks, name=VM)
        self.figures: list[tuple[str, float, str]] = []

    def settings(self) -> str:
        guest = self.guest
        text = SETTINGS.format(name=VM, uuid=guest.uuid, qmp=guest.qmp, agent=guest.agent)
        text = f'appliance_dir = "{cache_folder().with_name("appliance")}"\n{text}'
        return text + "".join(f'[[machine.disk]]\npath = "{path}"\n' for path in self.images)

    def points(self) -> list[dict[str, Any]]:
        """Oldest first."""
        names = f"iaasvmcontainerv2;{GROUP};{VM}"
        words = ["--item", f"VM;{names}", "--container", f"IaasVMContainer;{names}"]
        found: list[dict[str, Any]] = self.demo.ask("recovery-point", "list", *words)
        return sorted(found, key=lambda point: str(point["properties"]["recoveryPointTime"]))


def set_up(show: VmDemo, port: int) -> None:
    demo, server = show.demo, show.folder / "server"
    demo.run(
        *("login", "--server", f"https://127.0.0.1:{port}"),
        *("--ca", str(server / "ca.pem"), "--credentials", str(server / "admin.json")),
    )
    demo.run("vault", "create", VAULT, "-g", GROUP)
    credentials = str(show.folder / "vault-credentials.json")
    demo.run("vault", "credentials", VAULT, "-g", GROUP, "-o", credentials)
    agent = show.folder / "agent"
    demo.run(
        *("agent", "enroll", "--credentials", credentials, "--data", str(agent), "--name", HOST)
    )
    (agent / "holdfast.toml").write_text(show.settings())
    console.print(f"the agent's holdfast.toml names the machine:\n{show.settings()}", markup=False)


def back_up(show: VmDemo, title: str) -> None:
    started = time.monotonic()
    show.demo.run("vm", "backup", VM, "--wait")
    seconds = time.monotonic() - started
    ours = show.points()[-1]["properties"]["holdfast"]
    measured = ours["measured"]
    told = [
        f"{ours['transferredBytes'] / 1e6:.1f} MB sent",
        f"frozen {measured['freezeMs']:.0f} ms, stopped {measured['stopMs']:.0f} ms",
    ]
    told += [f"LUN {disk['lun']}: {disk['full'] or 'increment'}" for disk in measured["disks"]]
    show.figures.append((title, seconds, "; ".join(told)))


def restore_disks(show: VmDemo, truth: dict[int, bytes]) -> bool:
    target = show.folder / "restored"
    target.mkdir()
    show.demo.run("storage-account", "create", STORAGE, "--container", HOST, "--path", str(target))
    started = time.monotonic()
    words = ["vm", "restore", VM, "--recovery-point", "latest", "--wait"]
    show.demo.run(*words, "--disks-to", STORAGE, "--format", "raw")
    seconds = time.monotonic() - started
    (folder,) = target.iterdir()
    found = [(folder / name).read_bytes() for name in ("disk-os.raw", "disk-0.raw")]
    same = found == [truth[lun] for lun in LUNS]
    show.figures.append(("disks as files", seconds, "every byte is the same" if same else "DIFFER"))
    return same


def restore_machine(show: VmDemo) -> bool:
    """As a new machine, which boots and still has what the guest wrote."""
    started = time.monotonic()
    words = ["vm", "restore", VM, "--recovery-point", "latest", "--new", COPY, "--wait"]
    show.demo.run(*words)
    seconds = time.monotonic() - started
    folder = show.folder / COPY
    disks = [GuestDisk(folder / name) for name in ("disk-os.qcow2", "disk-0.qcow2")]
    copy = GuestMachine(folder, disks, name=COPY)
    try:
        copy.boot(show.files)
        same = copy.patterns_hold("/mnt/b/first") and copy.patterns_hold("/mnt/b/second")
    finally:
        copy.kill()
    told = "it boots, its files are whole" if same else "ITS FILES DIFFER"
    show.figures.append(("a new machine", seconds, told))
    return same


def running_job(demo: Demo) -> str:
    """Of the machine that runs from the vault; "" before it is reported."""
    for row in demo.ask("vm", "list"):
        if row["name"] == NOW:
            return str((row["properties"]["holdfast"]["runsFromVault"] or {}).get("jobId") or "")
    return ""


def run_from_the_vault(show: VmDemo) -> bool:
    """At once, then made independent while it runs; and a test of the point, which leaves nothing
    but its report."""
    demo, words = show.demo, ["--recovery-point", "latest", "--wait"]
    demo.run("vm", "instant", VM, "--name", NOW, *words)
    twin = Twin(show.folder / f"{NOW}.instant")
    try:
        same = twin.patterns_hold("/mnt/b/first") and twin.patterns_hold("/mnt/b/second")
        eventually(lambda: running_job(demo), "the host reports it")
        demo.run("vm", "list")
        job = demo.ask("job", "show", running_job(demo))["properties"]["holdfast"]
        ready = job["progress"]["guestReadySeconds"]
        told = "from the request to the guest's first answer"
        show.figures.append(("from the vault", ready, told))
        started = time.monotonic()
        demo.run("vm", "migrate", NOW, "--to", STORAGE, "--wait")
        seconds = time.monotonic() - started
        same = twin.patterns_hold("/mnt/b/first") and twin.patterns_hold("/mnt/b/second") and same
        told = "it runs on, its files are whole" if same else "ITS FILES DIFFER"
        show.figures.append(("moved to local disks", seconds, told))
    finally:
        kill(twin.folder / "qemu.pid")
    started = time.monotonic()
    probe = show.folder / "probe.sh"
    probe.write_text("sha256sum -c /mnt/b/second.sum\n")
    demo.run("vm", "test", VM, "--script", str(probe), *words)
    show.figures.append(("restore test", time.monotonic() - started, "passed"))
    return same


def restore_one_file(show: VmDemo, wanted: str) -> bool:
    """Found by browsing, read by a machine of its own: nothing of the guest's file system is parsed
    on the host."""
    show.demo.run("agent", "appliance", "--data", str(show.folder / "agent"))
    show.demo.run("vm", "browse", VM, "/disk0", "--recovery-point", "latest")
    started = time.monotonic()
    words = ["vm", "restore-files", VM, "--recovery-point", "latest", "--wait"]
    show.demo.run(*words, "--path", "/disk0/first", "--to", str(show.folder / "files"))
    seconds = time.monotonic() - started
    found = (show.folder / "files" / "disk0" / "first").read_bytes()
    same = hashlib.sha256(found).hexdigest() == wanted.split(maxsplit=1)[0]
    show.figures.append(("one file", seconds, "every byte is the same" if same else "IT DIFFERS"))
    return same


def main_job(show: VmDemo) -> bool:
    demo, guest, port = show.demo, show.guest, free_port()
    console.print("booting a guest with two disks and the guest agent")
    guest.boot(show.files)
    guest.write_pattern("/mnt/b/first", count=200)
    start = ("server", "start", "--data", str(show.folder / "server"))
    with background(demo, "server", *start, "--listen", f"127.0.0.1:{port}") as server:
        wait_until_listening(port, server, show.folder / "server.log")
        set_up(show, port)
        with background(demo, "agent", "agent", "start", "--data", str(show.folder / "agent")):
            eventually(lambda: demo.ask("vm", "list"), "the machine is seen")
            demo.run("vm", "list")
            demo.run("vm", "protect", VM, "--policy", "EnhancedPolicy")
            back_up(show, "first backup")
            console.print(
                "the guest writes 1 MiB more, and is paused: its disks are compared byte for byte"
            )
            guest.write_pattern("/mnt/b/second", count=16)
            guest.control("stop")
            truth = {
                lun: flatten(image, show.folder / "truth", in_use=True).read_bytes()
                for lun, image in zip(LUNS, show.images, strict=True)
            }
            back_up(show, "increment")
            guest.control("cont")
            demo.run("vm", "show", VM)
            same = restore_disks(show, truth)
            wanted = guest.shell("sha256sum < /mnt/b/first")
            same = restore_one_file(show, wanted) and same
            same = restore_machine(show) and same
            same = run_from_the_vault(show) and same
            return guest.patterns_hold("/mnt/b/first") and same


def closing_table(show: VmDemo) -> None:
    table = Table(title="What it took")
    for column in ("step", "seconds", "what came of it"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for title, seconds, told in show.figures:
        table.add_row(title, f"{seconds:.1f}", told)
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description="back up and restore a virtual machine")
    parser.add_argument("--keep", type=Path, help="copy the folder there at the end")
    arguments = parser.parse_args()
    if missing := missing_tools():
        print(f"demo: needs {', '.join(missing)} (docs/virtual-machines.md)", file=sys.stderr)
        return 2
    console.print("building the guest (downloads a few Debian packages the first time)")
    files = build_guest()
    with guest_folder() as folder:
        show = VmDemo(folder, files)
        try:
            same = main_job(show)
            closing_table(show)
        finally:
            show.guest.kill()
            if arguments.keep is not None:
                shutil.copytree(folder, arguments.keep, ignore=shutil.ignore_patterns("*.sock"))
                console.print(f"kept: {arguments.keep}")
    console.print("nothing was left running, and nothing was left behind")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
