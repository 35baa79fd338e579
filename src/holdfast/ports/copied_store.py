"""What a store over several disks tells and can be asked beyond the object store port.

A set of members keeps every object on each of them. One member, the home, decides creates; a write
is acknowledged when two members hold it. ``holdfast.adapters.object_store.copies`` is the one such
store; whoever needs more than the port asks ``copied``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from holdfast.ports.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class CopyMember:
    """One member of a set. ``number`` is from 1. ``missing``: why it takes no part now, empty when
    it does. ``device``: the file system it lies on, None when that cannot be told. ``wrong``: how
    often it gave other bytes than two others since this process began."""

    number: int
    address: str
    is_home: bool
    missing: str
    device: int | None
    wrong: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """Objects, and their bytes, that fewer members hold than the set has."""

    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What one run of replication did: copies written and their bytes, damaged copies put aside and
    written anew; ``left``: copies that could not be written."""

    copies: int
    size: int
    mended: int
    left: int


@runtime_checkable
class CopiedStore(ObjectStore, Protocol):
    """Thread safe."""

    def members(self) -> Sequence[CopyMember]:
        """All members, by number; those that were missing are looked for again."""
        ...

    def shortage(self, prefix: str = "") -> Shortage:
        """Compares the lists of all members below ``prefix``. StoreUnavailableError."""
        ...

    def catch_up(self, bytes_per_second: float, is_over: Callable[[], bool]) -> CaughtUp:
        """Write copies that are missing and mend those found damaged, at most at this rate (0: no
        limit), until there are none or ``is_over``. May be repeated at any time."""
        ...

    def thorough(self) -> ObjectStore:
        """The same store, whose reads compare the bytes of every member."""
        ...

    def adopt(self, number: int) -> None:
        """Take an empty store as member ``number`` in place of the one that was lost. ConflictError
        (CopyNotEmpty, CopyIsHome, CopyPresent), StoreUnavailableError."""
        ...

    def fail_over(self, number: int, accept_loss: bool = False) -> None:
        """Let member ``number`` decide creates from now on. Every other member but the home of now
        must be there, or what only they hold is given up (``accept_loss``).
        ConflictError (CopiesMissing, CopyIsHome), StoreUnavailableError."""
        ...


_NEXT = re.compile(r" (?=(?:file|s3):)")


def addresses_of(url: str) -> list[str]:
    """The addresses of a store's members; one when it is no set of copies. A path may have a space
    in it: only one before another address divides."""
    return _NEXT.split(url)


def copied(store: ObjectStore) -> CopiedStore | None:
    """The store over several members, below whatever layers (``inner``); None when there is
    none."""
    layer: object = store
    while layer is not None:
        if isinstance(layer, CopiedStore):
            return layer
        layer = getattr(layer, "inner", None)
    return None
