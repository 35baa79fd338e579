"""Making a set, taking a new disk into it, and letting another member decide. Each is what a person
asks for, and can be asked again after it was cut off."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from holdfast.adapters.object_store.copies import marks
from holdfast.adapters.object_store.copies.group import ENOUGH, Group
from holdfast.adapters.object_store.copies.marks import Mark, Term
from holdfast.adapters.object_store.copies.member import Member
from holdfast.errors import (
    ConflictError,
    ObjectMissingError,
    StoreUnavailableError,
    UsageError,
)
from holdfast.ports.object_store import ObjectStore

MOST_MEMBERS = 9


def make_set(stores: Sequence[tuple[str, ObjectStore]]) -> None:
    """Make the stores, given with their addresses, members of one set: the first is the home and
    may hold objects, which the others are then filled with. A set that is made already stays as it
    is. ConflictError (CopyOfAnotherSet, CopyNotEmpty), UsageError."""
    if not ENOUGH <= len(stores) <= MOST_MEMBERS:
        raise UsageError(f"a set of copies has {ENOUGH} to {MOST_MEMBERS} stores")
    found = [marks.read_mark(store) for _, store in stores]
    known = next((mark for mark in found if mark is not None), None)
    set_id = known.set_id if known is not None else secrets.token_hex(16)
    for number, ((address, store), mark) in enumerate(zip(stores, found, strict=True), 1):
        own = (set_id, number, len(stores))
        if mark is None and number > 1:
            _require_empty(address, store)
        elif mark is not None and (mark.set_id, mark.number, mark.of) != own:
            raise ConflictError(
                f"{address} is a member of another set of copies, or another member of this one",
                code="CopyOfAnotherSet",
                hint="give the stores of a set in the order they were given first, or empty ones",
            )
    terms = [marks.read_term(store) for _, store in stores]
    term = max(terms, key=lambda term: (term.number, term.filled))
    for number, (_, store) in enumerate(stores, 1):
        marks.write_mark(store, Mark(set_id, number, len(stores), 0))
        marks.write_term(store, term if term.number else Term(1, 1, filled=True))


def _require_empty(address: str, store: ObjectStore) -> None:
    first = next((info for info in store.list() if not marks.is_ours(info.key)), None)
    if first is not None:
        raise ConflictError(
            f"{address} is not empty: it holds {first.key}",
            code="CopyNotEmpty",
            hint="give an empty folder; only the first store of a new set may hold objects",
        )


def adopt(group: Group, number: int) -> None:
    """See ``CopiedStore.adopt``."""
    group.probe()
    member = _member(group, number)
    if member.store is not None:
        raise ConflictError(
            f"{member.address} takes part already", code="CopyPresent", hint="nothing is to be done"
        )
    if number == group.term.home:
        raise ConflictError(
            f"{member.address} decides what is written and cannot be taken in empty",
            code="CopyIsHome",
            hint="let another disk decide first: holdfast region fail-over",
        )
    group.place()
    store = member.open_new()
    if marks.read_mark(store) is None:
        _require_empty(member.address, store)
        term = Term(group.term.number + 1, group.term.home, filled=True)
        group.begin_term(term)  # what the lost disk owed is gone with it
        marks.write_mark(store, Mark(group.set_id, number, len(group.members), term.number))
    member.look_anew()
    group.refresh()
    if member.store is None:
        raise StoreUnavailableError(f"{member.address} was not taken in: {member.missing}")


def fail_over(group: Group, number: int, accept_loss: bool, fill: Callable[[Member], None]) -> None:
    """See ``CopiedStore.fail_over``. First every member learns of the new term, so that nothing
    more is acknowledged in the old one; then the new home gets all that was acknowledged; then it
    decides."""
    there = {member.number for member, _ in group.probe()}
    member, old = _member(group, number), group.term
    if number == old.home and old.filled:
        raise ConflictError(
            f"{member.address} decides what is written already",
            code="CopyIsHome",
            hint="nothing is to be done",
        )
    given_up = old.home if old.filled else _home_before(group)
    lost = [one for one in group.members if one.number not in {*there, given_up}]
    if number not in there or (lost and not accept_loss):
        raise ConflictError(
            f"not all other disks are there, and one may hold what no other has: {group.why()}",
            code="CopiesMissing",
            hint="bring them back; when they are gone for good, give --accept-loss: what only they "
            "held is lost then, and the vaults tell what that is",
        )
    if number != old.home:
        group.begin_term(Term(old.number + 1, number, filled=False))
    fill(member)
    group.begin_term(Term(group.term.number, number, filled=True))


def _home_before(group: Group) -> int:
    """The home of the term before this one; 0 when nobody knows it."""
    for _, store in group.present():
        try:
            return int(store.read(marks.home_key(group.term.number - 1)))
        except (ObjectMissingError, ValueError):
            continue
    return 0


def _member(group: Group, number: int) -> Member:
    if not 1 <= number <= len(group.members):
        raise UsageError(f"the set has no member {number}, but 1 to {len(group.members)}")
    return group.members[number - 1]
