"""The object store port: the few operations the vault store needs, and what each promises.

Keys are relative, ``/``-separated, of ``[A-Za-z0-9._-]`` segments (no empty, ``.`` or ``..``, at
most 255 characters), at most 512 characters; anything else is a UsageError (InvalidObjectKey), also
in a ``prefix``. No object is empty: creating one is a UsageError (EmptyObject), so an empty object
in a store is always damage. A key should not be the folder of another (``a`` beside ``a/b``): a
store may refuse the second as ObjectExistsError; what exists stays as it is.

All methods may be called from several threads at once. Every method may raise
``StoreUnavailableError`` (outcome unknown for writes) or ``StoreFullError`` (writes; nothing of the
object is visible). The conformance suite in ``holdfast.testing.object_store_suite`` is the
executable form of this page; every adapter and every layer stack passes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Key and size in bytes of a stored object."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class StoreTraits:
    """What callers may rely on, stated by the adapter rather than guessed from its type.

    ``atomic_create``: racing creates of one key have exactly one winner. ``durable``: a returned
    write survives a power cut. ``local_path``: root folder when the store is one.
    """

    name: str
    atomic_create: bool
    durable: bool
    local_path: str | None = None


class Upload(Protocol):
    """A staged object: invisible until ``publish``. Not thread safe. Whoever started it calls
    ``abort`` unless ``publish`` returned; ``abort`` is idempotent, harmless after ``publish``, and
    never raises."""

    def write(self, data: Buffer) -> None:
        """Append; the buffer may be reused by the caller after return."""
        ...

    def publish(self) -> None:
        """Make the object visible whole and durable, if the key is absent (atomic).

        Raises ObjectExistsError when the key exists (nothing is overwritten). After
        StoreUnavailableError the object may or may not be there, whole in either case, and
        publish may be called again until ``abort``.
        """
        ...

    def abort(self) -> None: ...


class ObjectStore(Protocol):
    """A flat map of keys to immutable byte strings."""

    @property
    def traits(self) -> StoreTraits: ...

    def create(self, key: str, data: Buffer) -> None:
        """Create ``key`` whole if absent: atomic, durable on return, visible to reads and lists
        at once. Raises ObjectExistsError. Not idempotent by itself: after an unclear result, read
        the key and compare."""
        ...

    def upload(self, key: str) -> Upload:
        """Start a staged create for large objects (up to 256 MiB) without holding them whole."""
        ...

    def read(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissingError."""
        ...

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; raises IntegrityError when the object is
        shorter, ObjectMissingError when it is absent, UsageError (InvalidRange) unless ``offset``
        >= 0 and ``length`` > 0."""
        ...

    def size(self, key: str) -> int | None:
        """Size in bytes, or None when absent."""
        ...

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key starts with ``prefix`` and sorts after ``after``, in ascending key
        order (by code point). Objects created or deleted meanwhile may or may not appear."""
        ...

    def delete(self, key: str) -> None:
        """Delete; absent is success. Durable on return. ObjectLockedError from a store that holds
        the object (``HoldingStore``); nothing is deleted then."""
        ...

    def free_bytes(self) -> int | None:
        """Free space for new objects, or None when the store cannot tell."""
        ...


class Horizons(Protocol):
    """Says which objects must stay, and until when."""

    def held_until(self, key: str) -> datetime | None:
        """Until when the object of this key, below the folder the horizons are of, must not be
        deleted; None when it may go now."""
        ...


@runtime_checkable
class HoldingStore(Protocol):
    """A store that deletes nothing before its horizon, whoever asks."""

    def hold(self, prefix: str, horizons: Horizons) -> None:
        """From now on ask ``horizons`` before an object below ``prefix`` is deleted, in place of
        those given for it before."""
        ...
