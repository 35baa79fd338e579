"""A key vault in a folder: ``FOLDER/NAME/VERSION``, a file per version.

Folders have mode 0700 (or less) and files 0600, owned by the user the agent runs as; anything else
is refused. Each is opened by the handle of the one above it and never through a link, so what was
checked is what is read. A new version appears whole, under a name nobody has.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.errors import SourceError, TargetError, UsageError
from holdfast.ports.key_vault import (
    MAX_SECRET,
    NAME,
    VERSION,
    Secret,
    check_name,
    secret_missing,
)

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PARTIAL = ".partial"  # no secret's name
LAST = 999_999_999  # the highest version there can be
_SIZE = f"a secret has 1 to {MAX_SECRET} bytes"


class FolderKeyVault:
    """See ``KeyVault``. ``path``: absolute; the folder is made when the first secret is put."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        with _reading(self._path), self._top() as top:
            return [] if top is None else sorted(filter(NAME.fullmatch, os.listdir(top)))

    def versions(self, name: str) -> list[str]:
        check_name(name)
        with _reading(self._path / name), self._secret(name) as folder:
            return [] if folder is None else _versions(folder)

    def get(self, name: str, version: str = "") -> Secret:
        check_name(name, version)
        with _reading(self._path / name), self._secret(name) as folder:
            there = [] if folder is None else _versions(folder)
            if folder is None or not there or (version and version not in there):
                raise secret_missing(name, version)
            found = version or there[-1]
            return Secret(name, found, self._read(folder, self._path / name / found))

    def put(self, name: str, value: bytes, version: str = "") -> Secret:
        check_name(name, version)
        if not 0 < len(value) <= MAX_SECRET:
            raise UsageError(_SIZE, code="SecretRefused", hint="give a key of a volume")
        try:
            self._make(name)
            with self._secret(name) as folder:
                if folder is None:
                    raise FileNotFoundError(None, "it was removed meanwhile")
                fcntl.flock(folder, fcntl.LOCK_EX)
                return Secret(name, self._keep(folder, name, value, version), value)
        except OSError as error:
            raise TargetError(
                f"secret {name} cannot be put into {self._path}: {error.strerror}",
                code="KeyVaultUnwritable",
                hint="see that the folder can be made and has room, and that the agent's user owns "
                "it",
            ) from error

    def _keep(self, folder: int, name: str, value: bytes, version: str) -> str:
        there = _versions(folder)
        for one in reversed(there):
            if hmac.compare_digest(self._read(folder, self._path / name / one), value):
                return one
        highest = int(there[-1]) if there else 0
        free = version if version and version not in there else str(highest + 1)
        if int(free) > LAST:
            raise OSError(None, "there are no more versions")
        _write(folder, free, value)
        return free

    def _make(self, name: str) -> None:
        with suppress(FileExistsError):
            self._path.mkdir(mode=0o700)
            _sync(self._path.parent)
        with self._top() as top:
            if top is None:
                raise FileNotFoundError(None, "it was removed meanwhile")
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=top)
                os.fsync(top)

    # opened and checked

    @contextmanager
    def _top(self) -> Iterator[int | None]:
        with _opened(self._path, self._path) as handle:
            yield handle

    @contextmanager
    def _secret(self, name: str) -> Iterator[int | None]:
        with self._top() as top:
            if top is None:
                yield None
                return
            with _opened(name, self._path / name, top) as handle:
                yield handle

    @staticmethod
    def _read(folder: int, place: Path) -> bytes:
        handle = os.open(place.name, FILE, dir_fd=folder)
        with os.fdopen(handle, "rb") as file:
            _check(handle, place, stat.S_ISREG)
            value = file.read(MAX_SECRET + 1)
        if not 0 < len(value) <= MAX_SECRET:
            raise SourceError(
                f"{place}: {_SIZE}", code="SecretRefused", hint="put the key there again"
            )
        return value


@contextmanager
def _reading(place: Path) -> Iterator[None]:
    """SourceError (KeyVaultUnreadable)."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{place} cannot be read: {error.strerror}",
            code="KeyVaultUnreadable",
            hint="a key vault has real folders and files of the agent's user, no links; see that "
            "its file system is mounted",
        ) from error


@contextmanager
def _opened(path: Path | str, shown: Path, above: int | None = None) -> Iterator[int | None]:
    """A folder's handle, checked; None when it is not there. OSError, SourceError
    (KeyVaultUnsafe)."""
    try:
        handle = os.open(path, FOLDER, dir_fd=above)
    except FileNotFoundError:
        yield None
        return
    try:
        _check(handle, shown, stat.S_ISDIR)
        yield handle
    finally:
        os.close(handle)


def _check(handle: int, shown: Path, is_kind: Callable[[int], bool]) -> None:
    """SourceError (KeyVaultUnsafe)."""
    found = os.fstat(handle)
    if is_kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
        return
    mode = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
    raise SourceError(
        f"{shown} is not the agent's alone: it has mode {stat.S_IMODE(found.st_mode):04o} and "
        f"belongs to user {found.st_uid}",
        code="KeyVaultUnsafe",
        hint=f"make it a plain file or folder of user {os.geteuid()} with mode {mode:04o}, and "
        "renew the key if others may have read it",
    )


def _versions(folder: int) -> list[str]:
    return sorted(filter(VERSION.fullmatch, os.listdir(folder)), key=int)


def _write(folder: int, version: str, value: bytes) -> None:
    """Whole and durable, or not at all. OSError."""
    with suppress(FileNotFoundError):
        os.unlink(PARTIAL, dir_fd=folder)
    try:
        with os.fdopen(os.open(PARTIAL, NEW, 0o600, dir_fd=folder), "wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        os.link(PARTIAL, version, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(PARTIAL, dir_fd=folder)
    os.fsync(folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
