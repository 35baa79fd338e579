"""Objects from member to member: copied whole, compared, put aside."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from holdfast.adapters.object_store.copies import marks
from holdfast.adapters.object_store.copies.marks import Mark
from holdfast.errors import (
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
    UsageError,
)
from holdfast.ports.object_store import ObjectInfo, ObjectStore

PIECE_BYTES = 4 * 1024 * 1024
COMPARED_BYTES = 1024 * 1024  # objects of so many bytes may have been written by two under one name

ReadRange = Callable[[str, int, int], bytes]


def copy(
    key: str, size: int, read: ReadRange, target: ObjectStore, pay: Callable[[int], None]
) -> None:
    """Write one object to a member. Nothing happens when it is there."""
    if size == 0 or target.size(key) is not None:
        return
    upload = target.upload(key)
    try:
        for start in range(0, size, PIECE_BYTES):
            length = min(PIECE_BYTES, size - start)
            pay(length)
            upload.write(read(key, start, length))
        with contextlib.suppress(ObjectExistsError):
            upload.publish()
    finally:
        upload.abort()


def is_same(key: str, one: ObjectStore, other: ObjectStore) -> bool:
    """Whether two members hold the same bytes; False also when either lacks them."""
    size = one.size(key)
    if size is None or other.size(key) != size:
        return False
    try:
        for start in range(0, size, PIECE_BYTES):
            length = min(PIECE_BYTES, size - start)
            if one.read_range(key, start, length) != other.read_range(key, start, length):
                return False
    except (IntegrityError, ObjectMissingError):
        return False
    return True


def put_aside(key: str, store: ObjectStore) -> None:
    """Take an object out of the way, its bytes kept below ``.copies/aside/`` as they can be read.
    What cannot be read at all is of no use to anybody."""
    with contextlib.suppress(StoreError, IntegrityError, UsageError):
        data = store.read(key)
        marks.put(store, marks.aside_key(key, data), data)
    store.delete(key)


def listed(stores: Sequence[Iterator[ObjectInfo]]) -> Iterator[tuple[str, dict[int, int]]]:
    """Keys in order, each with the sizes by the position of the stores that list it. The room of
    the set is left out."""
    tagged = [_tagged(number, infos) for number, infos in enumerate(stores)]
    for key, found in groupby(heapq.merge(*tagged), key=lambda one: one[0]):
        if not marks.is_ours(key):
            yield key, {number: size for _, number, size in found}


def _tagged(number: int, infos: Iterator[ObjectInfo]) -> Iterator[tuple[str, int, int]]:
    for info in infos:
        yield info.key, number, info.size


def pay_debts(store: ObjectStore, mark: Mark, others: Sequence[ObjectStore]) -> None:
    """Delete from a member that comes back what was deleted while it was missing. What was made
    again under the name meanwhile is another object: it stays when it is that one.

    A note may lie on a member that is missing now: that it was paid is kept until all are there."""
    found = {note: key for other in others for note, key in marks.notes(other, mark)}
    for note, key in found.items():
        if store.size(marks.paid_key(note)) is None:
            if not any(is_same(key, store, other) for other in others):
                store.delete(key)
            marks.put(store, marks.paid_key(note), b"paid")
    for other in others:
        marks.drop_notes(other, mark.number)
    if len(others) == mark.of - 1:
        marks.drop_paid(store)


def put_strays_aside(store: ObjectStore, home: ObjectStore) -> None:
    """Put aside what the home does not hold, or holds with other bytes."""
    for key, sizes in listed([store.list(), home.list()]):
        if 0 in sizes:
            small = sizes[0] <= COMPARED_BYTES
            if sizes.get(1) != sizes[0] or (small and not is_same(key, store, home)):
                put_aside(key, store)
