"""The file systems on the disks: found by what they begin with, mounted to be read only.

Below every disk lies a layer that takes writes and is thrown away, so the kernel may replay a
journal; a file system whose journal cannot be is mounted without.
"""

from __future__ import annotations

import os

BLOCKS, MODULES, MOUNTS = "/sys/block", "/lib/modules", "/run/volumes"
HEAD_BYTES = 1 << 17
SECTOR = 512
SMALLEST = 65536  # [bytes] of what can hold files
SAFE = "ro,nosuid,nodev,noexec"
# kind: (name in messages, signatures as (offset, bytes))
SIGNATURES: list[tuple[str, list[tuple[int, bytes]]]] = [
    ("luks", [(0, b"LUKS\xba\xbe"), (0, b"SKUL\xba\xbe")]),
    ("bitlocker", [(3, b"-FVE-FS-")]),
    ("lvm", [(at * SECTOR + 24, b"LVM2 001") for at in range(4)]),
    ("raid", [(0, b"\xfc\x4e\x2b\xa9"), (4096, b"\xfc\x4e\x2b\xa9")]),
    ("xfs", [(0, b"XFSB")]),
    ("btrfs", [(65600, b"_BHRfS_M")]),
    ("ntfs", [(3, b"NTFS    ")]),
    ("exfat", [(3, b"EXFAT   ")]),
    ("vfat", [(54, b"FAT12   "), (54, b"FAT16   "), (82, b"FAT32   ")]),
    ("swap", [(4086, b"SWAPSPACE2"), (4086, b"SWAP-SPACE")]),
    ("ext4", [(1080, b"\x53\xef")]),
]
# options to try, one after the other
OPTIONS = {
    "ext4": [f"{SAFE}", f"{SAFE},noload"],
    "xfs": [f"{SAFE},nouuid", f"{SAFE},nouuid,norecovery"],
    "btrfs": [f"{SAFE},subvolid=5", f"{SAFE},subvolid=5,rescue=nologreplay"],
    "vfat": [f"{SAFE},utf8=1,shortname=mixed"],
    "exfat": [f"{SAFE},iocharset=utf8"],
    "ntfs": [f"{SAFE}"],
}
ENCRYPTED = {"luks": b"LUKS", "bitlocker": b"BitLocker"}
LABELS = {"ext4": (1144, 16), "xfs": (108, 12), "btrfs": (65835, 256)}
LVM = "activation{udev_sync=0 udev_rules=0} devices{use_devicesfile=0} backup{backup=0 archive=0}"
INNER = ("_tdata", "_tmeta", "_tpool", "_cdata", "_cmeta", "_corig", "_pmspare")


class TroubleError(Exception):
    def __init__(self, code: bytes, message: bytes) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class Volume:
    """``kind``: what it begins with, "" for nothing known."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
        self.head = _head(device)
        self.kind = kind_of(self.head)

    @property
    def size(self) -> int:
        fd = os.open(self.device, os.O_RDONLY)
        try:
            return os.lseek(fd, 0, os.SEEK_END)
        finally:
            os.close(fd)

    def problem(self) -> tuple[bytes, bytes]:
        return problem_of(self.kind)

    def packed(self) -> bytes:
        return packed(self.name, self.kind, self.head, self.size)


class Volumes:
    """The volumes of all disks; looked for when they are asked for."""

    _mounted: dict[str, str] = {}

    def all(self) -> list[Volume]:
        plain = [Volume(name, device) for name, device in partitions()]
        if any(one.kind == "lvm" for one in plain):
            plain += [Volume(name, device) for name, device in logical_volumes()]
        shown = [one for one in plain if one.kind not in ("lvm", "swap")]
        return [one for one in shown if one.kind or one.size >= SMALLEST]  # no extended partition

    def mount(self, name: str) -> str:
        """Where a volume's files are. TroubleError (PathNotFound, VolumeEncrypted,
        FileSystemUnknown, FileSystemUnreadable)."""
        if name not in self._mounted:
            volume = self._find(name)
            code, message = volume.problem()
            if code:
                raise TroubleError(code, name.encode() + b" " + message)
            self._mounted[name] = self._mount(volume)
        return self._mounted[name]

    def _find(self, name: str) -> Volume:
        found = logical_volumes() if name.startswith("lvm-") else partitions()
        for one, device in found:
            if one == name:
                return Volume(one, device)
        raise TroubleError(b"PathNotFound", b"there is no volume " + name.encode())

    def _mount(self, volume: Volume) -> str:
        place = f"{MOUNTS}/{volume.name}"
        os.makedirs(place, exist_ok=True)
        load(volume.kind)
        said = b""
        for options in OPTIONS[volume.kind]:
            if volume.kind == "btrfs":
                options += self._companions()
            if volume.kind == "ntfs":
                words = ["/bin/ntfs-3g", "-o", options, volume.device, place]
            else:
                words = [
                    "/bin/busybox",
                    "mount",
                    "-t",
                    volume.kind,
                    "-o",
                    options,
                    volume.device,
                    place,
                ]
            code, said = run(words)
            if code == 0:
                return place
        kind = volume.kind.encode()
        why = said.strip().replace(b"\n", b"; ")[-300:]
        raise TroubleError(
            b"FileSystemUnreadable",
            b"the "
            + kind
            + b" file system of "
            + volume.name.encode()
            + b" cannot be read: "
            + why,
        )

    def _companions(self) -> str:
        """Other devices a btrfs may have parts on."""
        found = [device for name, device in partitions() if Volume(name, device).kind == "btrfs"]
        return "".join(f",device={device}" for device in found)


def partitions() -> list[tuple[str, str]]:
    """(name, device) of every partition, and of every disk without any. A disk's name is the
    serial number the host gave it."""
    found = []
    for disk in sorted(os.listdir(BLOCKS)):
        if not disk.startswith("vd"):
            continue
        with open(f"{BLOCKS}/{disk}/serial") as file:
            name = file.read().strip()
        numbers = []
        for inner in os.listdir(f"{BLOCKS}/{disk}"):
            if os.path.exists(f"{BLOCKS}/{disk}/{inner}/partition"):
                numbers.append(int(inner[len(disk) :]))
        found += [(f"{name}-p{number}", f"/dev/{disk}{number}") for number in sorted(numbers)]
        if not numbers:
            found.append((name, f"/dev/{disk}"))
    return found


def logical_volumes() -> list[tuple[str, str]]:
    """(name, device) of the logical volumes, activated."""
    load("lvm")
    run(["/bin/lvm", "vgchange", "-ay", "--config", LVM, "--activationmode", "partial"])
    words = ["/bin/lvm", "lvs", "--noheadings", "--separator", "/", "-o", "vg_name,lv_name"]
    code, said = run([*words, "--config", LVM])
    rows = [line.strip().decode(errors="replace").split("/") for line in said.splitlines()]
    found = []
    for row in rows:
        if code == 0 and len(row) == 2 and not row[1].endswith(INNER):
            mapped = "-".join(part.replace("-", "--") for part in row)
            if os.path.exists(f"/dev/mapper/{mapped}"):
                found.append((f"lvm-{row[0]}-{row[1]}", f"/dev/mapper/{mapped}"))
    return found


def problem_of(kind: str) -> tuple[bytes, bytes]:
    """(code, message) why nothing in such a volume can be read; empty when it can be tried."""
    if kind in ENCRYPTED:
        how = ENCRYPTED[kind]
        return b"VolumeEncrypted", b"is encrypted with " + how + b": its files cannot be read"
    if kind not in OPTIONS:
        what = kind.encode() or b"nothing known"
        return b"FileSystemUnknown", b"holds no file system that can be read (" + what + b")"
    return b"", b""


def packed(name: str, kind: str, head: bytes, size: int) -> bytes:
    """What is told of a volume; see ``wire.VOLUME``."""
    at, length = LABELS.get(kind, (0, 0))
    label = head[at : at + length].split(b"\0")[0]
    return b"\0".join((name.encode(), kind.encode(), label, b"%d" % size, *problem_of(kind)))


def kind_of(head: bytes) -> str:
    """What a volume that begins with ``head`` holds; "" when that is not known."""
    for kind, places in SIGNATURES:
        if any(head[at : at + len(magic)] == magic for at, magic in places):
            return kind
    return ""


def load(kind: str) -> None:
    """The kernel modules for a kind of volume."""
    try:
        with open(f"{MODULES}/{kind}") as file:
            names = file.read().split()
    except FileNotFoundError:
        return
    with open("/proc/modules") as file:
        loaded = {line.split()[0].replace("-", "_") for line in file}
    for name in names:
        if name.partition(".")[0].replace("-", "_") not in loaded:
            run(["/bin/busybox", "insmod", f"{MODULES}/{name}"])


def run(words: list[str]) -> tuple[int, bytes]:
    """A program's exit code and what it said."""
    inward, outward = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, outward, 1), (os.POSIX_SPAWN_DUP2, outward, 2)]
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=actions)
    os.close(outward)
    said = b""
    while piece := os.read(inward, 65536):
        said += piece
    os.close(inward)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def _head(device: str) -> bytes:
    try:
        fd = os.open(device, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)
