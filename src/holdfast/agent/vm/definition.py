"""A restored machine as files: what it was, a command line of QEMU's, and lines for the agent's
settings. A bare QEMU keeps no definitions, so a person starts it with these."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.adapters.disk_format.partial import failed
from holdfast.agent.vm.seen import read_startup
from holdfast.ports.vm_tasks import KeyRestored

FILE_NAME = "machine.json"
SETTINGS_NAME = "machine.toml"
QEMU_FORMATS = {"qcow2": "qcow2", "raw": "raw", "vhd": "vpc", "vhdx": "vhdx"}
DEFAULT_MEMORY = 1 << 30  # bytes; a point made while the machine was off does not know it
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class DiskFile:
    """``name`` of the file, in the folder of the definition."""

    lun: int
    name: str
    format: str
    size: int


@dataclass(frozen=True, slots=True)
class Definition:
    """``described``: the machine as the recovery point has it. ``folder``: where it will lie.
    ``keys``: of its encrypted volumes, as the host's key vault has them."""

    name: str
    uuid: str
    recovery_point_id: str
    described: dict[str, Any]
    disks: Sequence[DiskFile]
    folder: Path
    keys: Sequence[KeyRestored] = ()

    def write(self, folder: Path) -> None:
        """Into ``folder``, which takes the place of the final one later. TargetError. Settings
        only where they can say it: images machines run from, in a folder whose name is text."""
        settings = self._settings().encode(errors="replace")
        runs = all(disk.format in ("qcow2", "raw") for disk in self.disks)
        try:
            _write_new(folder / FILE_NAME, json.dumps(self._document(), indent=1).encode() + b"\n")
            if runs and settings.decode() == self._settings():
                _write_new(folder / SETTINGS_NAME, settings)
        except OSError as error:
            raise failed(folder, error) from error

    @property
    def path(self) -> Path:
        return self.folder / FILE_NAME

    def _document(self) -> dict[str, Any]:
        firmware = str(self.described.get("firmware") or "")
        notes = ["the network of the original is not known: the machine has none until you add it"]
        if firmware == "uefi":
            notes.append("the original starts by UEFI: add its firmware to the command line")
        return {
            "version": 1,
            "name": self.name,
            "uuid": self.uuid,
            "recoveryPoint": self.recovery_point_id,
            "processors": self._processors,
            "memoryBytes": self._memory,
            "firmware": firmware,
            "disks": [
                {
                    "lun": disk.lun,
                    "path": str(self.folder / disk.name),
                    "format": disk.format,
                    "sizeBytes": disk.size,
                }
                for disk in self.disks
            ],
            "keys": [
                {"name": key.name, "version": key.version, "luns": list(key.luns)}
                for key in self.keys
            ],
            "original": self.described,
            "notes": notes,
            "qemu": self._command(),
        }

    @property
    def _processors(self) -> int:
        return _number(self.described.get("processors")) or 1

    @property
    def _memory(self) -> int:
        return _number(self.described.get("memoryBytes")) or DEFAULT_MEMORY

    def _command(self) -> list[str]:
        here = self.folder
        words = ["qemu-system-x86_64", "-name", self.name, "-uuid", self.uuid]
        words += ["-smp", str(self._processors), "-m", f"{max(1, self._memory // MIB)}M"]
        words += ["-nic", "none", *self._started_by()]
        words += ["-qmp", f"unix:{here}/backup.sock,server=on,wait=off"]
        words += ["-device", "virtio-serial"]
        words += ["-chardev", f"socket,id=qga,path={here}/agent.sock,server=on,wait=off"]
        words += ["-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"]
        for at, disk in enumerate(self.disks):
            node = {
                "driver": QEMU_FORMATS[disk.format],
                "node-name": f"disk{at}",
                "file": {"driver": "file", "filename": str(here / disk.name)},
            }
            words += ["-blockdev", json.dumps(node)]
            words += ["-device", f"virtio-blk-pci,drive=disk{at},id=vd{at}"]
        return words

    def _started_by(self) -> list[str]:
        """A kernel of the host's, when the machine is not started from its disks."""
        startup = read_startup(self.described)
        if not startup.kernel:
            return []
        words = ["-kernel", startup.kernel, "-append", startup.words]
        return [*words, "-initrd", startup.initrd] if startup.initrd else words

    def _settings(self) -> str:
        """As the agent's ``holdfast.toml`` takes it. JSON's texts are TOML's basic strings."""
        pairs = {
            "name": self.name,
            "uuid": self.uuid,
            "qmp": f"{self.folder}/backup.sock",
            "agent": f"{self.folder}/agent.sock",
        }
        lines = ["[[machine]]", *(f"{key} = {_text(value)}" for key, value in pairs.items())]
        lines += [_key(one) for one in self.keys if not one.luns][:1]
        for disk in self.disks:
            lines += ["[[machine.disk]]", f"path = {_text(str(self.folder / disk.name))}"]
            lines += [f"format = {_text(disk.format)}", f"lun = {disk.lun}"]
            lines += [_key(one) for one in self.keys if disk.lun in one.luns][:1]
        return "\n".join(lines) + "\n"


def described_disk(described: dict[str, Any], lun: int) -> dict[str, Any]:
    """What the point says of a disk; empty when it says nothing."""
    disks = described.get("disks")
    for disk in disks if isinstance(disks, list) else ():
        if isinstance(disk, dict) and disk.get("lun") == lun:
            return disk
    return {}


def _write_new(path: Path, data: bytes) -> None:
    """Never into something that is there, or through a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)


def _key(one: KeyRestored) -> str:
    return f"key = {_text(f'{one.name}/{one.version}')}"


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 1 << 50 else 0


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
