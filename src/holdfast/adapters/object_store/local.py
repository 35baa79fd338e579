"""Objects as files of a folder: durable, atomic, create-if-absent by hard link.

A write goes to a temporary file of ``+tmp/`` (no key can be named so) in the same file system, is
synced, and gets its name by ``link`` (which fails when the name exists); then the folders that
changed are synced. A crash leaves at most a temporary file, which the next start removes.

The kernel tells of lost pages once and then calls the file sound, so an upload whose sync failed
never becomes an object. A name is told to be there only after its folder was synced, whichever
process or thread made it and whatever became of that (``local_names``): a name that was seen is a
name that lasts.

A folder of the root that was there once (a vault's) and is gone was moved or is not mounted. It is
never made anew: what would be written there would not be where its other objects are.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from holdfast.adapters.object_store.local_disk import (
    ABSENT,
    FORBIDDEN,
    failed,
    is_same,
    make_folder,
    open_temporary,
    remove_abandoned,
    sync_folder,
    translated,
)
from holdfast.adapters.object_store.local_names import LastingNames
from holdfast.adapters.object_store.local_writer import FileWriter, writer_for
from holdfast.adapters.object_store.rules import (
    SEGMENT,
    check_content,
    check_key,
    check_prefix,
    check_span,
    truncated,
)
from holdfast.errors import ObjectExistsError, ObjectMissingError, StoreUnavailableError
from holdfast.ports.object_store import Buffer, ObjectInfo, StoreTraits

TEMPORARY = "+tmp"
LARGE_READ = 128 * 1024  # read once, as restores do: not kept in the page cache
_FORGET: int | None = getattr(os, "POSIX_FADV_DONTNEED", None)


class LocalUpload:
    """A temporary file that becomes an object at ``publish``."""

    def __init__(self, store: LocalStore, key: str) -> None:
        self._store = store
        self._key = key
        self._size = 0
        self._sound = True
        self._path, self._handle = store.begin(key)
        self._writer: FileWriter | None = None

    def write(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        with self._must_succeed():
            if self._writer is None:
                self._writer = writer_for(self._handle, len(view))
            self._writer.write(view)
            self._size += len(view)

    def publish(self) -> None:
        check_content(self._key, self._size)
        if not self._sound:
            raise StoreUnavailableError(
                f"bytes of {self._key} were lost on their way to the disk",
                hint="check the disk; the object is not there, send it again",
            )
        with self._must_succeed():
            if self._writer is not None:
                self._writer.finish()
            os.fsync(self._handle)
        self._store.link(self._path, self._key)
        self.abort()

    @contextlib.contextmanager
    def _must_succeed(self) -> Iterator[None]:
        """After an error nobody knows which bytes the file holds."""
        try:
            with self._store.translated(self._key):
                yield
        except BaseException:
            self._sound = False
            raise

    def abort(self) -> None:
        if self._handle >= 0:
            handle, self._handle, self._writer = self._handle, -1, None
            with contextlib.suppress(OSError):
                self._path.unlink()
            with contextlib.suppress(OSError):
                os.close(handle)


class LocalStore:
    """An object store over the folder ``root``, which is made if absent. One that may not be
    written to can be read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / TEMPORARY
        self._lock = threading.Lock()
        self._count = 0
        self._synced: set[Path] = set()  # folders whose own names are known to be durable
        self._doubtful: set[Path] = set()  # folders whose sync failed here
        self._names = LastingNames(self._sync)
        self._tops: set[Path] = set()  # folders of the root in which an object was seen
        with translated(str(root), root):
            self._home = self._make_home()

    def _make_home(self) -> Path:
        """The folder that is there as long as the store is."""
        try:
            make_folder(self._root)
            make_folder(self._temporary, 0o700)
        except OSError as error:
            if error.errno in FORBIDDEN and self._root.is_dir():
                return self._root
            raise
        return self._temporary

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("local", atomic_create=True, durable=True, local_path=str(self._root))

    def translated(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Turns errors of the file system into those of the port."""
        return translated(key, self._home)

    def remove_leftovers(self) -> int:
        """Delete temporary files of processes that are gone; returns how many."""
        if self._home != self._temporary:
            return 0
        return sum(remove_abandoned(path) for path in self._temporary.iterdir())

    def begin(self, key: str) -> tuple[Path, int]:
        """A new temporary file and a handle to write to it."""
        if self._home != self._temporary:
            raise StoreUnavailableError(
                f"{key} cannot be written: the store's folder may only be read",
                hint="check how the disk is mounted and whose the folder is, then start again",
            )
        with self.translated(key):
            while True:
                with self._lock:
                    self._count += 1
                    name = f"{os.getpid()}-{id(self):x}-{self._count}"
                path = self._temporary / name
                handle = open_temporary(path)
                if handle is not None:
                    return path, handle

    def link(self, temporary: Path, key: str) -> None:
        """Give a synced temporary file its name, durably. ObjectExistsError when another has it."""
        path = self._path(key)
        with self.translated(key):
            try:
                self._make_folder(path.parent)
                os.link(temporary, path)
                ours = True
            except FileExistsError:
                ours = is_same(path, temporary)
            except NotADirectoryError as error:
                raise ObjectExistsError(f"a part of the path {key} is an object") from error
            except FileNotFoundError as error:
                raise failed(key, error) from error
        try:
            self._sync(path.parent)
        except OSError as error:
            raise failed(key, error) from error
        self._names.lasts(path)
        self._seen(key)
        if not ours:
            raise ObjectExistsError(f"object {key} exists")

    def _sync(self, folder: Path) -> None:
        """Make the names in ``folder`` durable; until that is so they are doubtful."""
        self._doubtful.add(folder)
        sync_folder(folder)
        self._doubtful.discard(folder)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder whose name survives a power cut, whoever made it."""
        if folder == self._root or (folder in self._synced and folder.is_dir()):
            return
        if folder in self._tops and not folder.is_dir():
            raise StoreUnavailableError(
                f"the folder {folder} is gone",
                hint="it was moved, or its disk is not mounted: put it back where it was",
            )
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        sync_folder(folder.parent)
        self._synced.add(folder)

    def _seen(self, key: str) -> None:
        """Note that an object of this key's top folder exists."""
        top, slash, _ = key.partition("/")
        if slash:
            self._tops.add(self._root / top)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _found(self, key: str, path: Path) -> None:
        """An object was there just now: its name is made to last before that is told, and that its
        top folder exists is noted. For use under ``translated``."""
        if self._home == self._temporary:
            self._names.seen(path)
        self._seen(key)

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
        path = self._path(key)
        with self.translated(key):
            data = path.read_bytes()
            self._found(key, path)
        return data

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        check_span(key, offset, length)
        path = self._path(key)
        with self.translated(key):
            handle = os.open(path, os.O_RDONLY)
            try:
                data = os.pread(handle, length, offset)
                if length >= LARGE_READ and _FORGET is not None:
                    os.posix_fadvise(handle, offset, length, _FORGET)
            finally:
                os.close(handle)
            self._found(key, path)
        if len(data) != length:
            raise truncated(key, offset + length)
        return data

    def size(self, key: str) -> int | None:
        path = self._path(key)
        try:
            with self.translated(key):
                found = path.stat()
                self._found(key, path)
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
            if folder in self._doubtful:
                self._sync(folder)
            with os.scandir(folder) as scan:
                known = [entry for entry in scan if SEGMENT.fullmatch(entry.name)]
            entries = [(entry.name + "/" * entry.is_dir(), entry) for entry in known]
        except OSError as error:
            if isinstance(error, ABSENT) and self._home.is_dir():
                return
            raise failed(str(folder), error) from error
        for name, entry in sorted(entries, key=lambda pair: pair[0]):
            key = base + name
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
            self._names.gone(path)
            self._sync(path.parent)

    def free_bytes(self) -> int | None:
        with self.translated(str(self._root)):
            found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize
