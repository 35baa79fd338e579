"""Disks of NBD servers as block sources and targets (``ports/block_device.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.errors import HoldfastError, SourceError, TargetError
from holdfast.nbd import wire
from holdfast.nbd.address import Address
from holdfast.nbd.client import SECONDS, NbdClient, connect
from holdfast.nbd.failures import NbdError
from holdfast.ports.block_device import Extent, ExtentKind


class NbdSource:
    """A ``BlockSource``: an export whose content holds still. With ``bitmap``, the name of a dirty
    bitmap of QEMU's, it knows what changed, if the server has that bitmap."""

    def __init__(self, client: NbdClient, bitmap: str | None = None) -> None:
        self._client = client
        self._bitmap = None if bitmap is None else wire.DIRTY_BITMAP + bitmap

    @classmethod
    def open(
        cls,
        address: Address,
        export: str,
        bitmap: str | None = None,
        *,
        seconds: float = SECONDS,
    ) -> NbdSource:
        """Connect; ``close`` it. SourceError with the codes of ``NbdError``."""
        contexts = [wire.ALLOCATION]
        if bitmap is not None:
            contexts.append(wire.DIRTY_BITMAP + bitmap)
        with _as(SourceError):
            return cls(connect(address, export, contexts, seconds=seconds), bitmap)

    @property
    def size(self) -> int:
        return self._client.size

    @property
    def knows_changes(self) -> bool:
        """Whether ``dirty`` says something."""
        return self._bitmap in self._client.contexts

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        if wire.ALLOCATION not in self._client.contexts:
            if length:
                yield Extent(offset, length, ExtentKind.DATA)
            return
        with _as(SourceError):
            for run in self._client.extents(wire.ALLOCATION, offset, length):
                yield Extent(run.offset, run.length, kind_of(run.flags))

    def dirty(self, offset: int, length: int) -> Iterator[Extent] | None:
        return self._dirty(self._bitmap, offset, length) if self.knows_changes else None

    def _dirty(self, context: str | None, offset: int, length: int) -> Iterator[Extent]:
        with _as(SourceError):
            for run in self._client.extents(context or "", offset, length):
                if run.flags & wire.STATE_DIRTY:
                    yield Extent(run.offset, run.length, ExtentKind.DATA)

    def read_into(self, offset: int, view: memoryview) -> None:
        with _as(SourceError):
            self._client.read_into(offset, view)

    def close(self) -> None:
        """End the connection; calls still waiting fail. Idempotent."""
        self._client.close()


class NbdTarget:
    """A ``BlockTarget``: an export that can be written."""

    def __init__(self, client: NbdClient) -> None:
        self._client = client

    @classmethod
    def open(cls, address: Address, export: str, *, seconds: float = SECONDS) -> NbdTarget:
        """Connect; ``close`` it. TargetError with the codes of ``NbdError``."""
        with _as(TargetError):
            return cls(connect(address, export, seconds=seconds))

    @property
    def size(self) -> int:
        return self._client.size

    def write(self, offset: int, view: memoryview) -> None:
        with _as(TargetError):
            self._client.write(offset, view)

    def write_zeroes(self, offset: int, length: int) -> None:
        with _as(TargetError):
            self._client.write_zeroes(offset, length)

    def flush(self) -> None:
        with _as(TargetError):
            self._client.flush()

    def close(self) -> None:
        """End the connection, without a flush. Idempotent."""
        self._client.close()


def kind_of(flags: int) -> ExtentKind:
    """A hole that is not said to read as zeros may hold anything: it is data."""
    if not flags & wire.STATE_ZERO:
        return ExtentKind.DATA
    return ExtentKind.UNALLOCATED if flags & wire.STATE_HOLE else ExtentKind.ZERO


@contextmanager
def _as(kind: type[HoldfastError]) -> Iterator[None]:
    """Failures of the connection as failures of the disk."""
    try:
        yield
    except NbdError as error:
        raise kind(error.message, code=error.code, hint=error.hint, retry=error.retry) from error
