"""Objects as files of a folder: durable, atomic, create-if-absent by hard link.

A write goes to a temporary file of ``tmp/`` in the same file system, is synced, and gets its name
by ``link`` (which fails when the name exists); then the folders that changed are synced. A crash
leaves at most a temporary file, which the next start removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from holdfast.errors import (
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    StoreFullError,
    StoreUnavailableError,
    UsageError,
)
from holdfast.ports.object_store import Buffer, ObjectInfo, StoreTraits

KEY = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
MAX_KEY = 512
FULL = (errno.ENOSPC, errno.EDQUOT)
FLUSH_BYTES = 8 * 1024 * 1024  # write back early, so that the final sync has little left


def check_key(key: str) -> str:
    """``key`` itself, or UsageError when it could escape the folder."""
    bad = len(key) > MAX_KEY or not KEY.fullmatch(key)
    if bad or any(part in (".", "..") for part in key.split("/")):
        raise UsageError(f"bad object key {key!r}", code="InvalidObjectKey")
    return key


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(f"no object {what}") from error
    except OSError as error:
        if error.errno in FULL:
            raise StoreFullError(
                f"the store is full while writing {what}",
                hint="free space on the store's disk, or expire and collect the vault",
            ) from error
        raise StoreUnavailableError(
            f"the store failed at {what}: {error.strerror}",
            hint="check the disk and its mount; nothing that was committed is affected",
        ) from error


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LocalUpload:
    """A temporary file that becomes an object at ``publish``."""

    def __init__(self, store: LocalStore, key: str) -> None:
        self._store = store
        self._key = key
        self._path = store.temporary_path()
        self._unsynced = 0
        with _translated(key):
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, data: Buffer) -> None:
        with _translated(self._key):
            view = memoryview(data).cast("B")
            while view:
                done = os.write(self._handle, view)
                self._unsynced += done
                view = view[done:]

    def publish(self) -> None:
        with _translated(self._key):
            os.fsync(self._handle)
        try:
            self._store.link(self._path, self._key)
        finally:
            self.abort()

    def abort(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            with contextlib.suppress(OSError):
                self._path.unlink()


class LocalStore:
    """An object store over the folder ``root``, which is made if absent."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"
        self._lock = threading.Lock()
        self._count = 0
        with _translated(str(root)):
            self._temporary.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("local", atomic_create=True, durable=True, local_path=str(self._root))

    def remove_leftovers(self) -> int:
        """Delete temporary files of processes that are gone; returns how many."""
        gone = 0
        for path in self._temporary.iterdir():
            owner = path.name.split("-")[0]
            if owner == str(os.getpid()) or (owner.isdigit() and Path(f"/proc/{owner}").exists()):
                continue
            path.unlink(missing_ok=True)
            gone += 1
        return gone

    def temporary_path(self) -> Path:
        with self._lock:
            self._count += 1
            return self._temporary / f"{os.getpid()}-{id(self):x}-{self._count}"

    def link(self, temporary: Path, key: str) -> None:
        """Give a synced temporary file its name, durably. ObjectExistsError when taken."""
        path = self._path(key)
        with _translated(key):
            made = self._make_parents(path.parent)
            try:
                os.link(temporary, path)
            except FileExistsError as error:
                raise ObjectExistsError(f"object {key} exists") from error
            for folder in made:
                _sync_folder(folder)
            _sync_folder(path.parent)

    def _make_parents(self, folder: Path) -> list[Path]:
        """Make missing folders; returns the parents whose entry lists changed, deepest last."""
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True, mode=0o700)
        return [path.parent for path in reversed(missing)]

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def create(self, key: str, data: Buffer) -> None:
        upload = self.upload(key)
        try:
            upload.write(data)
            upload.publish()
        finally:
            upload.abort()

    def upload(self, key: str) -> LocalUpload:
        self._path(key)
        return LocalUpload(self, key)

    def read(self, key: str) -> bytes:
        with _translated(key):
            return self._path(key).read_bytes()

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        with _translated(key):
            handle = os.open(self._path(key), os.O_RDONLY)
            try:
                data = os.pread(handle, length, offset)
            finally:
                os.close(handle)
        if len(data) != length:
            raise IntegrityError(
                f"object {key} is shorter than {offset + length} bytes", code="ObjectTruncated"
            )
        return data

    def size(self, key: str) -> int | None:
        try:
            with _translated(key):
                return self._path(key).stat().st_size
        except ObjectMissingError:
            return None

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        start = prefix.rpartition("/")[0]
        base = self._root / start if start else self._root
        yield from self._walk(base, f"{start}/" if start else "", prefix, after)

    def _walk(self, folder: Path, base: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Keys of a folder in code point order: a folder sorts as its name plus a slash."""
        try:
            with os.scandir(folder) as scan:
                entries = [(entry.name + "/" * entry.is_dir(), entry) for entry in scan]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, entry in sorted(entries, key=lambda pair: pair[0]):
            key = base + name
            if folder == self._root and name == "tmp/":
                continue
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(Path(entry.path), key, prefix, after)
            elif key.startswith(prefix) and key > after:
                with contextlib.suppress(FileNotFoundError):
                    yield ObjectInfo(key, entry.stat().st_size)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with contextlib.suppress(ObjectMissingError), _translated(key):
            path.unlink()
            _sync_folder(path.parent)

    def free_bytes(self) -> int | None:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize
