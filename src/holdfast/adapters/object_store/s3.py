"""Objects in an S3-compatible bucket: create-if-absent by ``If-None-Match: *``, single PUTs only.

Credentials: access_key_id, secret_access_key, endpoint, region (and session_token). Plain HTTP is
accepted for loopback endpoints only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import IO, Any
from urllib.parse import urlsplit

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
    UsageError,
)
from holdfast.ports.object_store import Buffer, ObjectInfo, StoreTraits

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SPOOL_BYTES = 8 * 1024 * 1024  # an upload is kept in memory up to this size, then in a file
FULL = ("QuotaExceeded", "StorageFull", "InsufficientCapacity", "InsufficientStorage")
_FIELDS = ("access_key_id", "secret_access_key", "session_token", "endpoint", "region")


def open_s3(bucket: str, prefix: str, credentials: Mapping[str, str]) -> S3Store:
    """UsageError (InvalidStoreCredentials, AdapterMissing)."""
    try:
        from obstore.store import S3Store as Bucket
    except ImportError as error:
        raise UsageError(
            "S3 stores need the extra 's3'",
            code="AdapterMissing",
            hint="install it: pipx install 'holdfast[s3]'",
        ) from error
    unknown = set(credentials) - set(_FIELDS)
    endpoint = credentials.get("endpoint", "")
    plain = endpoint.startswith("http://")
    if unknown or (plain and urlsplit(endpoint).hostname not in LOOPBACK):
        why = f"unknown fields {sorted(unknown)}" if unknown else "plain HTTP is for loopback only"
        raise UsageError(
            f"the S3 credentials cannot be used: {why}",
            code="InvalidStoreCredentials",
            hint=f"give a JSON file with {', '.join(_FIELDS)}",
        )
    config = {name: value for name, value in credentials.items() if name != "region" or value}
    config.setdefault("region", "us-east-1")
    options: dict[str, Any] = {"timeout": timedelta(seconds=120), "allow_http": plain}
    retry: dict[str, Any] = {"max_retries": 0}  # the retry layer repeats, and settles creates
    store = Bucket(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options=options,
        retry_config=retry,
    )
    return S3Store(store, f"s3://{bucket}/{prefix}")


@contextmanager
def _translated(what: str) -> Iterator[None]:
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(f"no object {what}") from error
    except (AlreadyExistsError, PreconditionError) as error:
        raise ObjectExistsError(f"object {what} exists") from error
    except (BaseError, OSError) as error:
        if any(word in str(error) for word in FULL):
            raise StoreFullError(
                f"the store is full while writing {what}",
                hint="raise the bucket's quota, or expire and collect the vault",
            ) from error
        reason = type(error).__name__
        raise StoreUnavailableError(
            f"the store did not answer as it should at {what} ({reason})",
            hint="check the endpoint, the bucket and the credentials; it can be tried again",
        ) from error


class S3Upload:
    """Spools an object, then sends it in one conditional PUT."""

    def __init__(self, store: S3Store, key: str) -> None:
        self._store = store
        self._key = key
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - ended by abort
            max_size=SPOOL_BYTES
        )

    def write(self, data: Buffer) -> None:
        with _translated(self._key):
            self._spool.write(data)

    def publish(self) -> None:
        with _translated(self._key):
            size = self._spool.tell()
            check_content(self._key, size)
            self._spool.seek(0)
        try:
            self._store.put(self._key, self._spool)
        except StoreUnavailableError:
            self._spool.seek(size)
            raise
        except BaseException:
            self.abort()
            raise
        self.abort()

    def abort(self) -> None:
        with suppress(OSError):
            self._spool.close()


class S3Store:
    """An object store over a bucket's prefix. ``inner``: obstore's store."""

    def __init__(self, inner: Any, name: str) -> None:
        self._inner = inner
        self._name = name

    def __repr__(self) -> str:
        return f"S3Store({self._name})"

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("s3", atomic_create=True, durable=True)

    def put(self, key: str, data: Buffer | IO[bytes]) -> None:
        """Create if absent."""
        import obstore

        with _translated(key):
            obstore.put(self._inner, check_key(key), data, mode="create", use_multipart=False)

    def create(self, key: str, data: Buffer) -> None:
        check_content(check_key(key), memoryview(data).nbytes)
        self.put(key, bytes(data))

    def upload(self, key: str) -> S3Upload:
        return S3Upload(self, check_key(key))

    def read(self, key: str) -> bytes:
        import obstore

        with _translated(key):
            return bytes(obstore.get(self._inner, check_key(key)).bytes())

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        import obstore

        check_span(key, offset, length)
        try:
            with _translated(key):
                data = bytes(
                    obstore.get_range(self._inner, check_key(key), start=offset, length=length)
                )
        except StoreUnavailableError:
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
        import obstore

        try:
            with _translated(key):
                return int(obstore.head(self._inner, check_key(key))["size"])
        except ObjectMissingError:
            return None

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        import obstore

        folder = check_prefix(prefix).rpartition("/")[0]
        found: list[ObjectInfo] = []
        with _translated(prefix or "/"):
            for batch in obstore.list(self._inner, prefix=folder or None):
                found += [ObjectInfo(row["path"], int(row["size"])) for row in batch]
        found.sort(key=lambda info: info.key)
        return iter([info for info in found if info.key.startswith(prefix) and info.key > after])

    def delete(self, key: str) -> None:
        import obstore

        try:
            with _translated(key):
                obstore.delete(self._inner, check_key(key))
        except ObjectMissingError:
            return

    def free_bytes(self) -> int | None:
        return None
