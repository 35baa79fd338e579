"""Objects as files of a folder: durable, atomic, create-if-absent by hard link.

A write goes to a temporary file of ``+tmp/`` (no key can be named so) in the same file system, is
synced, and gets its name by ``link`` (which fails when the name exists); then the folders that
changed are synced. A crash leaves at most a temporary file, which the next start removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from holdfast.adapters.object_store.rules import (
    check_content,
    check_key,
    check_prefix,
    check_span,
    truncated,
)
from holdfast.errors import (
    ObjectExistsError,
    ObjectMissingError,
    StoreFullError,
    StoreUnavailableError,
)
from holdfast.ports.object_store import Buffer, ObjectInfo, StoreTraits

FULL = (errno.ENOSPC, errno.EDQUOT)
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
TEMPORARY = "+tmp"
STALE_SECONDS = 86_400  # no write takes so long: a temporary file of this age has no owner


@contextlib.contextmanager
def _translated(what: str, home: Path) -> Iterator[None]:
    """Errors of the port. Absence counts only while ``home``, a folder of every store, is there:
    a disk that is not mounted has lost nothing."""
    try:
        yield
    except ABSENT as error:
        if not home.is_dir():
            raise _failed(what, error) from error
        raise ObjectMissingError(f"no object {what}") from error
    except OSError as error:
        if error.errno in FULL:
            raise StoreFullError(
                f"the store is full while writing {what}",
                hint="free space on the store's disk, or expire and collect the vault",
            ) from error
        raise _failed(what, error) from error


def _failed(what: str, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the store failed at {what}: {error.strerror}",
        hint="check the disk and its mount; nothing that was committed is affected",
    )


def _has_owner(path: Path) -> bool:
    """Whether the process that named a temporary file may still be writing it."""
    owner = path.name.split("-")[0]
    alive = owner.isdigit() and Path(f"/proc/{owner}").exists()
    return alive and time.time() - path.stat().st_mtime < STALE_SECONDS


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
        self._size = 0
        with store.translated(key):
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, data: Buffer) -> None:
        with self._store.translated(self._key):
            view = memoryview(data).cast("B")
            while view:
                done = os.write(self._handle, view)
                self._size += done
                view = view[done:]

    def publish(self) -> None:
        check_content(self._key, self._size)
        with self._store.translated(self._key):
            os.fsync(self._handle)
        self._store.link(self._path, self._key)
        self.abort()

    def abort(self) -> None:
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            with contextlib.suppress(OSError):
                self._path.unlink()
            with contextlib.suppress(OSError):
                os.close(handle)


class LocalStore:
    """An object store over the folder ``root``, which is made if absent."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / TEMPORARY
        self._lock = threading.Lock()
        self._count = 0
        self._synced: set[Path] = set()  # folders whose own names are known to be durable
        with _translated(str(root), root):
            self._temporary.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("local", atomic_create=True, durable=True, local_path=str(self._root))

    def translated(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Turns errors of the file system into those of the port."""
        return _translated(key, self._temporary)

    def remove_leftovers(self) -> int:
        """Delete temporary files of processes that are gone; returns how many."""
        gone = 0
        for path in self._temporary.iterdir():
            with contextlib.suppress(OSError):
                if not _has_owner(path):
                    path.unlink()
                    gone += 1
        return gone

    def temporary_path(self) -> Path:
        with self._lock:
            self._count += 1
            return self._temporary / f"{os.getpid()}-{id(self):x}-{self._count}"

    def link(self, temporary: Path, key: str) -> None:
        """Give a synced temporary file its name, durably. ObjectExistsError when taken."""
        path = self._path(key)
        with self.translated(key):
            try:
                self._make_folder(path.parent)
                os.link(temporary, path)
            except FileExistsError as error:
                raise ObjectExistsError(f"object {key} exists") from error
            except NotADirectoryError as error:
                raise ObjectExistsError(f"a part of the path {key} is an object") from error
            _sync_folder(path.parent)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder whose name survives a power cut, whoever made it."""
        if folder == self._root or (folder in self._synced and folder.is_dir()):
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        _sync_folder(folder.parent)
        self._synced.add(folder)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def create(self, key: str, data: Buffer) -> None:
        check_content(key, memoryview(data).nbytes)
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
        with self.translated(key):
            return self._path(key).read_bytes()

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        check_span(key, offset, length)
        with self.translated(key):
            handle = os.open(self._path(key), os.O_RDONLY)
            try:
                data = os.pread(handle, length, offset)
            finally:
                os.close(handle)
        if len(data) != length:
            raise truncated(key, offset + length)
        return data

    def size(self, key: str) -> int | None:
        try:
            with self.translated(key):
                found = self._path(key).stat()
        except ObjectMissingError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        start = check_prefix(prefix).rpartition("/")[0]
        base = self._root / start if start else self._root
        return self._walk(base, f"{start}/" if start else "", prefix, after)

    def _walk(self, folder: Path, base: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Keys of a folder in code point order: a folder sorts as its name plus a slash."""
        try:
            with os.scandir(folder) as scan:
                entries = [(entry.name + "/" * entry.is_dir(), entry) for entry in scan]
        except OSError as error:
            if isinstance(error, ABSENT) and self._temporary.is_dir():
                return
            raise _failed(str(folder), error) from error
        for name, entry in sorted(entries, key=lambda pair: pair[0]):
            key = base + name
            if key == TEMPORARY + "/":
                continue
            if name.endswith("/"):
                ahead = key > after or after.startswith(key)  # else all its keys sort before
                if ahead and (key.startswith(prefix) or prefix.startswith(key)):
                    yield from self._walk(Path(entry.path), key, prefix, after)
            elif key.startswith(prefix) and key > after:
                with contextlib.suppress(FileNotFoundError):
                    yield ObjectInfo(key, entry.stat().st_size)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with contextlib.suppress(ObjectMissingError), self.translated(key):
            if path.is_dir():
                return
            path.unlink()
            _sync_folder(path.parent)

    def free_bytes(self) -> int | None:
        with self.translated(str(self._root)):
            found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize
