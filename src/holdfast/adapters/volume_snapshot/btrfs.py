"""btrfs: a read-only snapshot of the subvolume that holds all include paths.

The snapshot is made beside the subvolume's content (``.holdfast-snapshot-...`` in its top folder)
and removed after the backup. Its path is noted in the agent's folder before it is made, so that one
left by a killed agent is removed at the next start. The scan reads "/" from a staging folder in
which the snapshot is mounted where the subvolume lies. Only includes that lie in one subvolume are
served; others are read live.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from holdfast.errors import SourceError
from holdfast.ports.volume_snapshot import SourceSnapshot

BTRFS_ROOT_INODE = 256  # every subvolume's top folder has this inode number
MARK = ".holdfast-snapshot-"
COMMAND_SECONDS = 120


class BtrfsSnapshots:
    """Needs root and the ``btrfs`` program. ``state``: where snapshots are noted."""

    def __init__(self, state: Path) -> None:
        self._notes = state / "snapshots"

    def take(self, paths: tuple[bytes, ...]) -> SourceSnapshot | None:
        tops = {_subvolume(b"/" + path) for path in paths}
        if len(tops) != 1 or None in tops or os.geteuid() != 0:
            return None
        top = tops.pop() or b"/"
        place = top.rstrip(b"/") + b"/" + MARK.encode() + str(os.getpid()).encode()
        self._note(place)
        with contextlib.suppress(SourceError):
            _delete(place)
        _btrfs("subvolume", "snapshot", "-r", top, place)
        base = self._root_of(top, place)
        reason = "read from a read-only btrfs snapshot"
        return SourceSnapshot(base, "CrashConsistent", reason)

    def _root_of(self, top: bytes, place: bytes) -> bytes:
        """A folder in which the subvolume's path leads into the snapshot: real folders down to the
        subvolume, then a bind mount of the snapshot."""
        stage = os.fsencode(self._notes) + b"/root-" + str(os.getpid()).encode()
        where = stage + top.rstrip(b"/")
        Path(os.fsdecode(where)).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", os.fsdecode(place), os.fsdecode(where))
        return stage.lstrip(b"/")

    def _note(self, place: bytes) -> None:
        self._notes.mkdir(parents=True, exist_ok=True)
        note = self._notes / f"{os.getpid()}.note"
        note.write_bytes(place)

    def release(self, snapshot: SourceSnapshot) -> None:
        self._remove(os.getpid())

    def remove_leftovers(self) -> int:
        if not self._notes.is_dir():
            return 0
        found = [int(note.stem) for note in self._notes.glob("*.note") if note.stem.isdigit()]
        return sum(self._remove(pid) for pid in found)

    def _remove(self, pid: int) -> bool:
        note = self._notes / f"{pid}.note"
        if not note.exists():
            return False
        place = note.read_bytes()
        stage = self._notes / f"root-{pid}"
        where = os.fsdecode(os.fsencode(stage) + os.path.dirname(place).rstrip(b"/"))
        if os.path.ismount(where):
            _run("umount", where)
        _remove_empty(stage)
        if os.path.lexists(place):
            _delete(place)
        note.unlink(missing_ok=True)
        return True


def _subvolume(path: bytes) -> bytes | None:
    """The top folder of the btrfs subvolume that holds ``path``, or None."""
    real = os.path.realpath(path)
    if real != path.rstrip(b"/"):
        return None
    while True:
        try:
            if os.stat(real).st_ino == BTRFS_ROOT_INODE and _is_btrfs(real):
                return real
        except OSError:
            return None
        if real == b"/":
            return None
        real = os.path.dirname(real)


def _is_btrfs(path: bytes) -> bool:
    """By the mount table: the longest mount point above ``path``."""
    best, kind = b"", b""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        point = before.split(b" ")[4].replace(b"\\040", b" ")
        above = path == point or path.startswith(point.rstrip(b"/") + b"/")
        if above and len(point) >= len(best):
            best, kind = point, after.split(b" ")[0]
    return kind == b"btrfs"


def _delete(place: bytes) -> None:
    _btrfs("subvolume", "delete", place)


def _btrfs(*words: str | bytes) -> None:
    _run("btrfs", *(os.fsdecode(word) for word in words))


def _run(*words: str) -> None:
    """SourceError (SnapshotFailed) with what the program said."""
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(
            f"{words[0]} could not be run: {error}",
            code="SnapshotFailed",
            hint="install btrfs-progs",
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise SourceError(
            f"{' '.join(words[:3])} failed: {said}",
            code="SnapshotFailed",
            hint="look at the volume's free space; the next run tries again",
        )


def _remove_empty(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()
