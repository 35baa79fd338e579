"""What a set of copies keeps on its members beside the objects: below ``.copies/``, told to nobody.

    .copies/member          which set this is a member of, and which one
    .copies/home-<term>     which member decides creates in that term
    .copies/filled-<term>   the home of that term holds everything that was acknowledged before
    .copies/gone/<n>/<hash> an object that was deleted while member n was missing
    .copies/aside/<key>     bytes of this member that were not those of the others

All are immutable. The highest term on any member counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from blake3 import blake3

from holdfast.adapters.object_store.rules import check_key
from holdfast.errors import ConflictError, ObjectExistsError, ObjectMissingError, UsageError
from holdfast.ports.object_store import ObjectStore

ROOM = ".copies/"
MEMBER = ROOM + "member"
_HOME, _FILLED = ROOM + "home-", ROOM + "filled-"
_NO_MARK = "it carries no readable mark of a set of copies: is its disk mounted?"


@dataclass(frozen=True, slots=True)
class Mark:
    """``of``: how many members the set has."""

    set_id: str
    number: int
    of: int


@dataclass(frozen=True, slots=True)
class Term:
    """Who decides creates. ``filled``: the home lacks nothing that was acknowledged before."""

    number: int
    home: int
    filled: bool


def is_ours(key: str) -> bool:
    """Whether a key, or the prefix of a list, lies in the room of the set itself."""
    return key.startswith(ROOM)


def home_key(term: int) -> str:
    return f"{_HOME}{term:08d}"


def filled_key(term: int) -> str:
    return f"{_FILLED}{term:08d}"


def gone_prefix(number: int) -> str:
    return f"{ROOM}gone/{number}/"


def gone_key(number: int, key: str) -> str:
    return gone_prefix(number) + blake3(key.encode()).hexdigest(32)


def aside_key(key: str, data: bytes) -> str:
    """Where bytes that are not those of the others are put aside: named by what they are."""
    digest = blake3(data).hexdigest(8)
    try:
        return check_key(f"{ROOM}aside/{key}.{digest}")
    except UsageError:  # too long a name
        return f"{ROOM}aside/{blake3(key.encode()).hexdigest(16)}.{digest}"


def read_mark(store: ObjectStore) -> Mark | None:
    """Whose member a store is; None when it is none. ConflictError (CopyMarkDamaged)."""
    try:
        found = json.loads(store.read(MEMBER))
        return Mark(str(found["set"]), int(found["number"]), int(found["of"]))
    except ObjectMissingError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConflictError(_NO_MARK, code="CopyMarkDamaged", hint="look at the disk") from error


def write_mark(store: ObjectStore, mark: Mark) -> None:
    body = {"set": mark.set_id, "number": mark.number, "of": mark.of}
    put(store, MEMBER, json.dumps(body).encode())


def read_term(store: ObjectStore) -> Term:
    """The highest term a member knows; term 0 when it knows none."""
    for info in sorted(store.list(_HOME), key=lambda info: info.key, reverse=True):
        try:
            number, home = int(info.key[len(_HOME) :]), int(store.read(info.key))
        except ValueError:
            continue  # a damaged mark; the other members have it too
        return Term(number, home, store.size(filled_key(number)) is not None)
    return Term(0, 0, False)


def write_term(store: ObjectStore, term: Term) -> None:
    put(store, home_key(term.number), str(term.home).encode())
    if term.filled:
        put(store, filled_key(term.number), b"filled")


def debts(store: ObjectStore, number: int) -> Iterator[tuple[str, str]]:
    """(key of the note, deleted key) of what was deleted while a member was missing."""
    for info in list(store.list(gone_prefix(number))):
        yield info.key, store.read(info.key).decode()


def put(store: ObjectStore, key: str, data: bytes) -> None:
    """Create unless it is there."""
    try:
        store.create(key, data)
    except ObjectExistsError:
        return
