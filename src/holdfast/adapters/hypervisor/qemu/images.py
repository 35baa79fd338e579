"""Disk images on this host: their size as the guest sees it, and their identity."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import stat
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.errors import SourceError

TOOL_SECONDS = 60
F_OFD_GETLK = 36  # of Linux; sees locks of processes and of open files
FLOCK = struct.Struct("@hhqqi0q")  # struct flock: type, whence, start, length, pid
WRITE_LOCK_BYTE = 101  # of QEMU: RAW_LOCK_PERM_BASE and the bit of BLK_PERM_WRITE
AT_FDCWD, STATX_BTIME, STATX_BYTES, BTIME_AT = -100, 0x800, 256, 80


def image_size(path: Path, image: str) -> int:
    """In bytes; works while a machine has the image open. SourceError (DiskUnreadable)."""
    words = ("qemu-img", "info", "-U", "-f", image, "--output=json", str(path))
    found: dict[str, Any] = json.loads(run_tool(path, *words))
    return int(found["virtual-size"])


def check_free(path: Path, image: str) -> None:
    """SourceError (DiskInUse) when a running machine has the image, (DiskUnreadable). Takes no lock
    itself, not even for a moment: a machine that is started right then would fail to."""
    run_tool(path, "qemu-img", "info", "-U", "-f", image, "--output=json", str(path))
    if _is_written(path):
        raise SourceError(
            f"the disk image {path} is in use, but the machine's monitor does not answer",
            code="DiskInUse",
            hint="see whether qmp in the settings is a monitor socket of this machine",
            target=str(path),
        )


def _is_written(path: Path) -> bool:
    """Whether a QEMU holds the image to write, by the byte it locks for that."""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, WRITE_LOCK_BYTE, 1, 0)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        answer = fcntl.fcntl(handle, F_OFD_GETLK, asked)
    except OSError:  # a file system without locks: QEMU has none there either
        return False
    finally:
        os.close(handle)
    return bool(FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def run_tool(path: Path, *words: str, handles: Sequence[int] = ()) -> str:
    """What qemu-img prints; it has these open files of ours. SourceError (DiskUnreadable,
    ToolMissing)."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            check=False,
            timeout=TOOL_SECONDS,
            text=True,
            pass_fds=handles,
        )
    except FileNotFoundError as error:
        raise SourceError(
            f"{words[0]} is not installed",
            code="ToolMissing",
            hint="install QEMU's tools (qemu-utils and qemu-system-common, or qemu-img)",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise _unreadable(path, f"no answer within {TOOL_SECONDS} s") from error
    if done.returncode != 0:
        raise _unreadable(path, done.stderr.strip().replace("\n", "; "))
    return done.stdout


def identity(path: Path, image: str) -> str:
    """Changes when another file or device takes the place of this one; stays over restarts of the
    machine and of the host, and when the disk is resized. SourceError (DiskUnreadable)."""
    try:
        real = path.resolve(strict=True)
        found = real.stat()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if stat.S_ISBLK(found.st_mode):
        parts = ("device", _device_mark(found.st_rdev) or str(real))
    else:
        parts = ("file", f"{real}\0{found.st_ino}\0{_birth(real)}")
    return hashlib.sha256("\0".join((image, *parts)).encode()).hexdigest()[:32]


def _device_mark(number: int) -> str:
    """What the kernel knows a block device by, over restarts."""
    place = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    for name in ("dm/uuid", "wwid", "device/wwid", "device/serial", "serial"):
        try:
            text = (place / name).read_text().strip()
        except OSError:
            continue
        if text:
            return f"{name}={text}"
    return ""


def _birth(path: Path) -> str:
    """When the file was made; empty where the file system does not keep it."""
    answer = ctypes.create_string_buffer(STATX_BYTES)
    try:
        statx = ctypes.CDLL(None, use_errno=True).statx
    except (AttributeError, OSError):
        return ""
    if statx(AT_FDCWD, os.fsencode(path), 0, STATX_BTIME, answer) != 0:
        return ""
    (mask,) = struct.unpack_from("=I", answer, 0)
    seconds, nanoseconds = struct.unpack_from("=qI", answer, BTIME_AT)
    return f"{seconds}.{nanoseconds:09d}" if mask & STATX_BTIME else ""


def _unreadable(path: Path, why: str) -> SourceError:
    return SourceError(
        f"the disk image {path} cannot be read: {why}",
        code="DiskUnreadable",
        hint="see whether path and format of the disk in the settings are right",
        target=str(path),
    )
