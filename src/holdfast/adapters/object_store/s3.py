"""Objects in an S3-compatible bucket: create-if-absent by ``If-None-Match: *``, single PUTs only.

Services list in orders of their own (SeaweedFS gives ``a/b`` before ``a-b``), so a list is sorted
here and takes no offset of the service's.
"""

from __future__ import annotations

import errno
import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from holdfast.adapters.object_store.rules import (
    check_content,
    check_key,
    check_prefix,
    check_span,
    truncated,
)
from holdfast.errors import (
    HoldfastError,
    ObjectExistsError,
    ObjectMissingError,
    StoreFullError,
    StoreUnavailableError,
)
from holdfast.ports.object_store import Buffer, ObjectInfo, StoreTraits

FULL = ("QuotaExceeded", "StorageFull", "InsufficientCapacity", "InsufficientStorage", " 507 ")
DENIED = (PermissionDeniedError, UnauthenticatedError)
DENIED_STATUS = ("status code: 401", "status code: 403")  # of a list
CONFLICT = "ConditionalRequestConflict"  # others are at the key; whether one succeeds is open


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise _meaning(what, error) from error


def _meaning(what: str, error: Exception) -> HoldfastError:
    """The port's error of a refused request. The cause is kept, its text is not: it holds the
    service's whole answer."""
    text = str(error)
    if "NoSuchBucket" in text:
        return StoreUnavailableError(
            f"the store's bucket does not exist (asked for {what})",
            code="StoreBucketMissing",
            hint="create the bucket, or correct its name in the region's address",
        )
    if isinstance(error, FileNotFoundError):
        return ObjectMissingError(f"no object {what}")
    if isinstance(error, AlreadyExistsError | PreconditionError) and CONFLICT not in text:
        return ObjectExistsError(f"object {what} exists")
    if any(word in text for word in FULL):
        return StoreFullError(
            f"the store is full while writing {what}",
            hint="raise the bucket's quota, or expire and collect the vault",
        )
    if isinstance(error, DENIED) or any(status in text for status in DENIED_STATUS):
        return StoreUnavailableError(
            f"the store refuses its credentials at {what}",
            code="StoreAccessDenied",
            hint="give the region a key that may read, write, list and delete in the bucket, and "
            "compare the clocks of server and store",
        )
    return StoreUnavailableError(
        f"the store did not answer as it should at {what} ({type(error).__name__})",
        hint="check the endpoint and the bucket; it can be tried again",
    )


@contextmanager
def _spooling(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(
                f"no room to spool {key} on its way to the store",
                code="SpoolFull",
                hint=f"free space in {tempfile.gettempdir()}, or set TMPDIR to another folder",
            ) from error
        raise StoreUnavailableError(
            f"{key} cannot be spooled on its way to the store: {error.strerror}",
            hint=f"check the disk of {tempfile.gettempdir()}",
        ) from error


class S3Upload:
    """Spools an object in a file without a name, then sends it in one conditional PUT."""

    def __init__(self, store: S3Store, key: str) -> None:
        self._store = store
        self._key = key
        self._size = 0
        self._sound = True
        with _spooling(key):
            self._spool = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - ended by abort

    def write(self, data: Buffer) -> None:
        self._sound = False
        with _spooling(self._key):
            view = memoryview(data).cast("B")
            while view:
                done = self._spool.write(view)
                self._size += done
                view = view[done:]
        self._sound = True

    def publish(self) -> None:
        check_content(self._key, self._size)
        if not self._sound:
            raise StoreUnavailableError(
                f"bytes of {self._key} were lost on their way to the spool",
                hint="the object is not there, send it again",
            )
        with _spooling(self._key):
            mapped = mmap.mmap(self._spool.fileno(), 0, access=mmap.ACCESS_READ)
        with mapped:
            self._store.put_large(self._key, mapped)
        self.abort()

    def abort(self) -> None:
        with suppress(OSError):
            self._spool.close()


class S3Store:
    """An object store over a bucket's prefix. ``inner``, ``patient``: obstore's store of the same
    place, the second with time for large bodies."""

    def __init__(self, inner: Any, patient: Any, name: str) -> None:
        self._inner = inner
        self._patient = patient
        self._name = name

    def __repr__(self) -> str:
        return f"S3Store({self._name})"

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("s3", atomic_create=True, durable=True)

    def put_large(self, key: str, data: mmap.mmap) -> None:
        """Create if absent, without a copy."""
        with _translated(key):
            obstore.put(self._patient, check_key(key), data, mode="create", use_multipart=False)

    def create(self, key: str, data: Buffer) -> None:
        check_content(check_key(key), memoryview(data).nbytes)
        with _translated(key):
            obstore.put(self._inner, key, bytes(data), mode="create", use_multipart=False)

    def upload(self, key: str) -> S3Upload:
        return S3Upload(self, check_key(key))

    def read(self, key: str) -> bytes:
        with _translated(key):
            return bytes(obstore.get(self._inner, check_key(key)).bytes())

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        check_span(key, offset, length)
        try:
            with _translated(key):
                data = bytes(
                    obstore.get_range(self._inner, check_key(key), start=offset, length=length)
                )
        except StoreUnavailableError as error:
            if error.code == StoreUnavailableError.code:
                self._require_length(key, offset + length)
            raise
        if len(data) != length:
            raise truncated(key, offset + length)
        return data

    def _require_length(self, key: str, end: int) -> None:
        """Tell a short object from a store that failed: both refuse a range."""
        size = self.size(key)
        if size is None:
            raise ObjectMissingError(f"no object {key}")
        if size < end:
            raise truncated(key, end)

    def size(self, key: str) -> int | None:
        try:
            with _translated(key):
                return int(obstore.head(self._inner, check_key(key))["size"])
        except ObjectMissingError:
            return None

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        folder = check_prefix(prefix).rpartition("/")[0]
        found: list[ObjectInfo] = []
        with _translated(prefix or "/"):
            for batch in obstore.list(self._inner, prefix=folder or None):
                found += [ObjectInfo(row["path"], int(row["size"])) for row in batch]
        found.sort(key=lambda info: info.key)
        return iter([info for info in found if info.key.startswith(prefix) and info.key > after])

    def delete(self, key: str) -> None:
        try:
            with _translated(key):
                obstore.delete(self._inner, check_key(key))
        except ObjectMissingError:
            return

    def free_bytes(self) -> int | None:
        return None
