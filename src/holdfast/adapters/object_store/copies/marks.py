"""What a set of copies keeps on its members beside the objects: below ``.copies/``, told to nobody.

    .copies/member          which set this is a member of, and which one
    .copies/home-<term>     which member decides creates in that term
    .copies/filled-<term>   the home of that term holds everything that was acknowledged before
    .copies/gone/<n>/<id>   an object that was deleted while member n was missing
    .copies/paid/<id>       this member has deleted it; the note may be found again elsewhere
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
_HOME, _FILLED, _PAID = ROOM + "home-", ROOM + "filled-", ROOM + "paid/"
_NO_MARK = "it carries no readable mark of a set of copies: is its disk mounted?"


@dataclass(frozen=True, slots=True)
class Mark:
    """``of``: how many members the set has. ``since``: the term in which the member was taken in
    empty; what was noted before is not about it."""

    set_id: str
    number: int
    of: int
    since: int


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


def paid_key(note: str) -> str:
    return _PAID + note


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
        figures = (int(found[name]) for name in ("number", "of", "since"))
        return Mark(str(found["set"]), *figures)
    except ObjectMissingError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConflictError(_NO_MARK, code="CopyMarkDamaged", hint="look at the disk") from error


def write_mark(store: ObjectStore, mark: Mark) -> None:
    body = {"set": mark.set_id, "number": mark.number, "of": mark.of, "since": mark.since}
    put(store, MEMBER, json.dumps(body).encode())


def newest_term(store: ObjectStore) -> int:
    """The number of the highest term a member knows; 0 when it knows none."""
    numbers = (info.key[len(_HOME) :] for info in store.list(_HOME))
    return max((int(number) for number in numbers if number.isdigit()), default=0)


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


def write_note(store: ObjectStore, number: int, note: str, term: int, key: str) -> None:
    """Note that member ``number``, which is missing, must delete ``key`` when it comes back."""
    put(store, gone_prefix(number) + note, f"{term} {key}".encode())


def notes(store: ObjectStore, mark: Mark) -> Iterator[tuple[str, str]]:
    """(id, deleted key) of what a member of that mark must delete."""
    prefix = gone_prefix(mark.number)
    for info in list(store.list(prefix)):
        term, _, key = store.read(info.key).decode(errors="replace").partition(" ")
        if term.isdigit() and int(term) >= mark.since:
            yield info.key[len(prefix) :], key


def has_notes(store: ObjectStore, number: int) -> bool:
    """Whether something is noted that member ``number`` must delete."""
    return next(iter(store.list(gone_prefix(number))), None) is not None


def drop_notes(store: ObjectStore, number: int) -> None:
    for info in list(store.list(gone_prefix(number))):
        store.delete(info.key)


def drop_paid(store: ObjectStore) -> None:
    for info in list(store.list(_PAID)):
        store.delete(info.key)


def put(store: ObjectStore, key: str, data: bytes) -> None:
    """Create unless it is there."""
    try:
        store.create(key, data)
    except ObjectExistsError:
        return
