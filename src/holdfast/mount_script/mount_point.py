#!/usr/bin/env python3
"""Mounts the disks of one recovery point of a virtual machine here, to be read, until you end it.

It reads what you look at from the backup server, over TLS, with the password that was shown beside
this script. The password opens this point alone, read only, for twelve hours. Run it as root on a
machine with Python 3.9 or newer, qemu-utils, qemu-system-common, fuse3, fdisk and mount:

    sudo python3 SCRIPT [--to FOLDER]

The file systems are read by THIS machine's kernel: use a machine you can do without, when you do
not trust the virtual machine. A layer of its own takes what a journal's replay writes; nothing of
the recovery point changes. Volume groups and encrypted volumes are named, and not mounted.
"""

from __future__ import annotations

import argparse
import getpass
import http.client
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SETTINGS: dict[str, str] = {}

BLOCK = 1 << 20
BLOCKS_KEPT = 64
CHECK_SECONDS = float(os.environ.get("HOLDFAST_CHECK_SECONDS", "15"))
START_SECONDS = 60.0
END_SECONDS = 30.0
PATIENCE = 120.0  # seconds for which a read waits for a server that is away
FIRST_PAUSE, LAST_PAUSE = 0.5, 15.0
TOOLS = ("qemu-storage-daemon", "qemu-img", "sfdisk", "losetup", "blkid", "mount", "umount")
SAFE = "ro,nosuid,nodev,noexec"
OPTIONS = {"xfs": ",nouuid", "btrfs": ",subvolid=5"}
KNOWN = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "exfat", "ntfs")
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
OPTION, REPLY, REQUEST, ANSWER = 0x49484156454F5054, 0x3E889045565A9, 0x25609513, 0x67446698


class OverError(Exception):
    """The recovery point is not open any more, or never was."""


class Source:
    """The backup server, asked by several threads."""

    def __init__(self, password: str) -> None:
        self._password = password
        self._own = threading.local()
        self.ending = threading.Event()  # nothing is waited for any more
        self._tls = ssl.create_default_context(cadata=SETTINGS["authority"])
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2  # Python 3.9 would take less
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def get(self, path: str, patience: float = 0.0) -> tuple[int, bytes]:
        """Status and body. Asked again at once when a connection was kept for too long, and for
        ``patience`` seconds while the server is away or busy."""
        end, pause, tries = time.monotonic() + patience, FIRST_PAUSE, 0
        while True:
            tries += 1
            try:
                status, body, wished = self._get(path)
                if status != 429 and status < 500:
                    return status, body
                failed: Exception | None = None
            except ssl.SSLCertVerificationError:
                raise
            except (OSError, http.client.HTTPException) as error:
                self._own.line, wished, failed = None, 0.0, error
            if failed is not None and tries == 1:
                continue
            wait = max(pause, wished)
            if time.monotonic() + wait > end or self.ending.wait(wait):
                if failed is not None:
                    raise failed
                return status, body
            pause = min(2 * pause, LAST_PAUSE)

    def _get(self, path: str) -> tuple[int, bytes, float]:
        """Status, body, and the seconds the server wishes to be left alone."""
        line = getattr(self._own, "line", None)
        if line is None:
            address = urlsplit(SETTINGS["server"])
            line = http.client.HTTPSConnection(
                address.hostname or "", address.port or 443, context=self._tls, timeout=60
            )
            self._own.line = line
        where = f"/providers/Holdfast.Backup/itemRecoveries/{SETTINGS['recovery']}{path}"
        mark = "&" if "?" in path else "?"
        headers = {"Authorization": f"Bearer {self._password}"}
        line.request("GET", f"{where}{mark}api-version=2024-04-01", headers=headers)
        answer = line.getresponse()
        body = answer.read()
        if answer.status in (401, 403, 404):
            raise OverError(_message(body))
        wished = answer.getheader("Retry-After") or ""
        return answer.status, body, float(wished) if wished.isdecimal() else 0.0

    def point(self) -> dict[str, Any]:
        status, body = self.get("")
        if status != 200:
            raise OSError(f"the server answered {status}: {_message(body)}")
        found: dict[str, Any] = json.loads(body)["properties"]
        return found

    def read(self, disk: dict[str, Any], offset: int, length: int) -> bytes:
        """Bytes of a disk, by whole blocks. OSError when the server does not give them."""
        pieces = []
        while length:
            start = offset - offset % BLOCK
            block = self._block(disk, start)
            piece = block[offset - start : offset - start + length]
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def _block(self, disk: dict[str, Any], start: int) -> bytes:
        key = (disk["lun"], start)
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key]
        size = min(BLOCK, disk["sizeBytes"] - start)
        status, body = self.get(f"/disks/{disk['lun']}?offset={start}&length={size}", PATIENCE)
        block = bytes(size) if status == 204 else body
        if status not in (200, 204) or len(block) != size:
            raise OSError(f"the server answered {status}: {_message(body)}")
        with self._lock:
            self._blocks[key] = block
            if len(self._blocks) > BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        return block


class DiskServer:
    """One disk over the NBD protocol, on a socket file."""

    def __init__(self, source: Source, disk: dict[str, Any], path: Path) -> None:
        self._source, self._disk = source, disk
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            line, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        stream = line.makefile("rwb")
        try:
            if self._greet(stream):
                while self._answer(stream):
                    pass
        except (OSError, struct.error, OverError):
            pass
        finally:
            line.close()

    def _greet(self, stream: Any) -> bool:
        """The handshake: whether disk access begins."""
        stream.write(b"NBDMAGIC" + struct.pack(">QH", OPTION, 3))
        stream.flush()
        stream.read(4)
        export = struct.pack(">QH", self._disk["sizeBytes"], 3)
        while True:
            _, option, length = struct.unpack(">QII", stream.read(16))
            stream.read(length)
            if option in (6, 7):
                self._reply(stream, option, 3, struct.pack(">H", 0) + export)
                self._reply(stream, option, 1)
                if option == 7:
                    return True
            elif option == 2:
                self._reply(stream, option, 1)
                return False
            else:
                self._reply(stream, option, 0x80000001)

    def _reply(self, stream: Any, option: int, kind: int, data: bytes = b"") -> None:
        stream.write(struct.pack(">QIII", REPLY, option, kind, len(data)) + data)
        stream.flush()

    def _answer(self, stream: Any) -> bool:
        """One request; whether another may come."""
        _, _, kind, handle, offset, length = struct.unpack(">IHHQQI", stream.read(28))
        if kind == 2:
            return False
        error, data = 22, b""
        if kind == 0 and offset + length <= self._disk["sizeBytes"]:
            try:
                error, data = 0, self._source.read(self._disk, offset, length)
            except (OSError, OverError, http.client.HTTPException):
                error = 5
        stream.write(struct.pack(">IIQ", ANSWER, error, handle) + data)
        stream.flush()
        return True


class Mounts:
    """What is mounted here; ``close`` undoes all of it, backwards."""

    def __init__(self, source: Source, target: Path) -> None:
        self._source, self._target = source, target
        self._folder = Path(tempfile.mkdtemp(prefix="holdfast-mount-"))
        self._mounted: list[Path] = []
        self._made: list[Path] = []
        self._loops: list[str] = []
        self._daemons: list[tuple[Path, subprocess.Popen[bytes]]] = []

    def mount(self, disk: dict[str, Any]) -> None:
        image = self._image(disk)
        for name, options in partitions(image, disk["name"]):
            loop = run("losetup", "-f", "--show", *options, str(image)).strip()
            self._loops.append(loop)
            self._mount(name, loop)

    def _image(self, disk: dict[str, Any]) -> Path:
        """The disk as a file, with a layer that takes writes."""
        name, size = disk["name"], disk["sizeBytes"]
        line, layer, image = (self._folder / f"{name}.{kind}" for kind in ("nbd", "layer", "raw"))
        DiskServer(self._source, disk, line)
        run("qemu-img", "create", "-q", "-f", "qcow2", str(layer), str(size))
        image.touch()
        under: dict[str, Any] = {"driver": "nbd", "node-name": "under", "read-only": True}
        under["server"] = {"type": "unix", "path": str(line)}
        over: dict[str, Any] = {"driver": "qcow2", "node-name": "over", "backing": "under"}
        over["file"] = {"driver": "file", "filename": str(layer)}
        export = {"type": "fuse", "id": "file", "node-name": "over", "writable": True}
        export["mountpoint"] = str(image)
        words = ["--blockdev", json.dumps(under), "--blockdev", json.dumps(over)]
        words += ["--export", json.dumps(export)]
        daemon = subprocess.Popen(
            ["qemu-storage-daemon", *words], stdin=subprocess.DEVNULL, start_new_session=True
        )
        self._daemons.append((image, daemon))
        end = time.monotonic() + START_SECONDS
        while image.stat().st_size < size:
            if daemon.poll() is not None or time.monotonic() > end:
                raise OSError(f"{name} could not be shown as a file (needs /dev/fuse)")
            time.sleep(0.05)
        return image

    def _mount(self, name: str, loop: str) -> None:
        kind = kind_of(loop)
        if kind not in KNOWN:
            what = kind or "nothing known"
            say(f"  not mounted: {name} holds {what}")
            return
        place = self._target / name
        self._make(place)
        options = SAFE + OPTIONS.get(kind, "")
        driver = "ntfs-3g" if kind == "ntfs" else kind
        try:
            run("mount", "-t", driver, "-o", options, loop, str(place))
        except OSError as error:
            say(f"  not mounted: {name} ({kind}): {error}")
            return
        self._mounted.append(place)
        say(f"  {place} ({kind})")

    def _make(self, place: Path) -> None:
        """What is mounted is root's to read: its modes are the guest's. Only what is made here is
        removed at the end."""
        if not self._target.is_dir():
            self._target.mkdir(mode=0o700, parents=True)
        if not place.is_dir():
            place.mkdir(mode=0o700)
            self._made.append(place)

    def close(self) -> None:
        """Every step is tried, whatever came of the others."""
        self._source.ending.set()
        for place in reversed(self._mounted):
            undo(f"unmount {place}", unmount, place)
        for place in reversed(self._made):
            undo(f"remove {place}", place.rmdir)
        for loop in reversed(self._loops):
            undo(f"release {loop}", run, "losetup", "-d", loop)
        for image, daemon in self._daemons:
            undo(f"end the process {daemon.pid}", end, image, daemon)
        undo(f"remove {self._folder}", self._remove)
        self._mounted, self._made, self._loops, self._daemons = [], [], [], []

    def _remove(self) -> None:
        for path in self._folder.iterdir():
            path.unlink()
        self._folder.rmdir()


def undo(what: str, step: Callable[..., object], *given: Any) -> None:
    try:
        step(*given)
    except (OSError, subprocess.SubprocessError) as error:
        say(f"could not {what}: {error}; do it by hand")


def unmount(place: Path) -> None:
    try:
        run("umount", str(place))
    except OSError:  # somebody is in it
        run("umount", "--lazy", str(place))


def end(image: Path, daemon: subprocess.Popen[bytes]) -> None:
    """A daemon that is killed leaves the file it shows mounted."""
    daemon.terminate()
    try:
        daemon.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        with suppress(OSError):
            run("umount", "--lazy", str(image))
        daemon.wait(END_SECONDS)


def partitions(image: Path, name: str) -> list[tuple[str, list[str]]]:
    """Names, and where losetup finds them."""
    try:
        table = json.loads(run("sfdisk", "-J", str(image)))["partitiontable"]
    except OSError:
        return [(name, [])]
    unit = int(table.get("sectorsize", 512))
    found: list[tuple[str, list[str]]] = []
    for row in table.get("partitions", []):
        number = re.search(r"(\d+)$", row["node"])
        start, size = str(row["start"] * unit), str(row["size"] * unit)
        part = f"{name}-p{number.group(1) if number else len(found) + 1}"
        found.append((part, ["-o", start, "--sizelimit", size]))
    return found


def kind_of(device: str) -> str:
    try:
        return run("blkid", "-p", "-o", "value", "-s", "TYPE", device).strip()
    except OSError:
        return ""


def run(*words: str) -> str:
    """What a program prints. OSError with its complaint."""
    environment = {**os.environ, "PATH": SEARCH, "LC_ALL": "C"}
    done = subprocess.run(
        words, capture_output=True, check=False, env=environment, start_new_session=True
    )
    if done.returncode != 0:
        raise OSError(done.stderr.decode(errors="replace").strip() or f"{words[0]} failed")
    return done.stdout.decode(errors="replace")


def say(text: str) -> None:
    """Names and complaints are others': nothing in them reaches the terminal as a command."""
    print("".join(one if one.isprintable() else "?" for one in text), flush=True)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "no reason was given"


def missing() -> list[str]:
    """What this machine lacks."""
    places = SEARCH.split(":")
    lacks = [name for name in TOOLS if not any((Path(one) / name).exists() for one in places)]
    return lacks if os.geteuid() == 0 else [*lacks, "root"]


def main() -> int:
    parser = argparse.ArgumentParser(description="mount a recovery point, to be read")
    parser.add_argument("--to", type=Path, help="folder to mount in (default: one of its name)")
    asked = parser.parse_args()
    if lacks := missing():
        say(f"cannot mount: this machine lacks {', '.join(lacks)}")
        return 2
    password = os.environ.pop("HOLDFAST_PASSWORD", "") or getpass.getpass("password: ")
    source = Source(password.strip())
    target = (asked.to or Path(f"{SETTINGS['machine']}-{SETTINGS['point']}")).absolute()
    ending = threading.Event()
    source.ending = ending
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ending.set())
    try:
        return serve(source, target, ending)
    except (OverError, OSError, http.client.HTTPException) as error:
        say(f"cannot go on: {error}")
        return 1


def serve(source: Source, target: Path, ending: threading.Event) -> int:
    """Mount, and stay until somebody ends it here or there."""
    point = source.point()
    mounts = Mounts(source, target)
    try:
        say(f"{point['virtualMachine']}, recovery point {point['recoveryPoint']}:")
        for disk in point["disks"]:
            if not ending.is_set():
                mounts.mount(disk)
        say(f"mounted until {point['expiresAt']}; Ctrl-C unmounts")
        while not ending.wait(CHECK_SECONDS):
            try:
                source.point()
            except OverError as error:
                say(f"unmounting: {error}")
                return 0
            except (OSError, http.client.HTTPException):
                continue  # the server is away for a while
        say("unmounting")
        return 0
    finally:
        mounts.close()


if __name__ == "__main__":
    sys.exit(main())
