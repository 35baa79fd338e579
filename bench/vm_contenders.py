"""The competitors of the VM benchmark: each takes the same disk, and brings it back as qcow2."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from contenders import HOLDFAST, Contender, Holdfast, Restic
from measure import Measurement
from vm_guest import BenchGuest

VM, STORAGE = "bench", "restored"
SEEN_SECONDS = 60
SETTINGS = """[[machine]]
name = "{name}"
uuid = "{uuid}"
qmp = "{qmp}"
agent = "{agent}"
[[machine.disk]]
path = "{image}"
"""


class HoldfastVm(Holdfast):
    """The machine while it runs, through server and agent."""

    def __init__(self, folder: Path, guest: BenchGuest) -> None:
        super().__init__(folder)
        self.guest = guest

    def set_up(self, source: Path) -> None:
        guest = self.guest
        self.start_programs(SETTINGS.format(name=VM, uuid=guest.uuid, qmp=guest.qmp,
                                            agent=guest.agent, image=source))  # fmt: skip
        until = time.monotonic() + SEEN_SECONDS
        while not self.ask("vm", "list"):
            if time.monotonic() > until:
                raise SystemExit(f"holdfast: the machine is not seen: {self.log}")
            time.sleep(0.2)
        self.target = self.folder / "restored"
        self.target.mkdir()
        self.cli("vm", "protect", VM, "--policy", "EnhancedPolicy")
        self.cli("storage-account", "create", STORAGE, "--container", self.host,
                 "--path", str(self.target))  # fmt: skip

    def ask(self, *words: str) -> Any:
        done = subprocess.run([str(HOLDFAST), *words, "-o", "json"], env=self.environment,
                              check=True, stdout=subprocess.PIPE)  # fmt: skip
        return json.loads(done.stdout)

    def back_up(self, source: Path) -> Measurement:
        return self.cli("vm", "backup", VM, "--wait")

    def restore(self, target: Path) -> Measurement:
        return self.cli("vm", "restore", VM, "--recovery-point", "latest", "--disks-to", STORAGE,
                        "--format", "qcow2", "--wait")  # fmt: skip

    def restored_tree(self, target: Path, source: Path) -> Path:
        (found,) = self.target.glob("*/disk-os.qcow2")
        return found

    def newest(self) -> dict[str, Any]:
        """What the newest recovery point says was measured."""
        names = f"iaasvmcontainerv2;{self.environment['HOLDFAST_GROUP']};{VM}"
        points = self.ask("recovery-point", "list", "--item", f"VM;{names}",
                          "--container", f"IaasVMContainer;{names}")  # fmt: skip
        last = max(points, key=lambda one: str(one["properties"]["recoveryPointTime"]))
        found: dict[str, Any] = last["properties"]["holdfast"]["measured"]
        return found

    def check(self) -> dict[str, bool]:
        verified = self.cli("vault", "verify", "bench-vault", "-g", "bench")
        return {"vault verify": verified.exit_code == 0}


class ResticImage(Restic):
    """The image file of the guest, which is paused meanwhile."""

    name = "restic"


class QemuImgConvert(Contender):
    """A copy of the image to another: what the machine's disk can do, and the floor."""

    name = "qemu-img convert"
    incremental = False

    def back_up(self, source: Path) -> Measurement:
        return self._copy(source, self.folder / "copy.qcow2")

    def restore(self, target: Path) -> Measurement:
        target.mkdir(parents=True)
        return self._copy(self.folder / "copy.qcow2", target / "disk.qcow2")

    def _copy(self, source: Path, target: Path) -> Measurement:
        script = 'qemu-img convert -U -f qcow2 -O qcow2 -W "$1" "$2" && sync "$2"'
        return self.run("sh", "-c", script, "sh", str(source), str(target))

    def restored_tree(self, target: Path, source: Path) -> Path:
        return target / "disk.qcow2"

    def stored_bytes(self) -> int:
        copy = self.folder / "copy.qcow2"
        return copy.stat().st_blocks * 512


def has_command(who: HoldfastVm, *words: str) -> bool:
    """Whether this version has it."""
    done = subprocess.run([str(HOLDFAST), *words, "--help"], env=who.environment,
                          capture_output=True, check=False)  # fmt: skip
    return done.returncode == 0


def missing() -> list[str]:
    return [name for name in ("restic", "qemu-img") if shutil.which(name) is None]
