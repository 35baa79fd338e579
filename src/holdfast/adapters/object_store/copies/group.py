"""The members of a set: who is there, who decides, and what one that comes back must do first.

A member that comes back is brought in line before it takes part: its mark must name this set and
its number; what was deleted meanwhile is deleted there; and if another member became the home
meanwhile, what it alone holds, or holds differently, is put aside: nobody was ever told that it is
there.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from holdfast.adapters.object_store.copies import copying, marks
from holdfast.adapters.object_store.copies.marks import Mark, Term
from holdfast.adapters.object_store.copies.member import Member
from holdfast.errors import ConflictError, HoldfastError, StoreUnavailableError
from holdfast.ports.object_store import ObjectInfo, ObjectStore

Present = tuple[Member, ObjectStore]
Infos = Iterator[ObjectInfo]
T = TypeVar("T")
ENOUGH = 2  # members that hold a write before it is acknowledged


@dataclass(frozen=True, slots=True)
class Arrival:
    """A member that was opened and is of this set, before it takes part."""

    member: Member
    store: ObjectStore
    mark: Mark
    term: Term


class Group:
    """Thread safe. ``arrivals`` counts how often a member came (back)."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.term = Term(0, 0, False)
        self.set_id = ""
        self.arrivals = 0
        self._turn = 0
        self._lock = threading.RLock()

    @property
    def home(self) -> Member | None:
        """Who decides creates; None while no member could tell."""
        return self.members[self.term.home - 1] if self.term.home else None

    def present(self) -> list[Present]:
        """Members that take part: the home first, the others in turns."""
        if any(member.is_due() for member in self.members):
            self.refresh()
        found = [(member, member.store) for member in self.members]
        there = [(member, store) for member, store in found if store is not None]
        self._turn += 1
        turn = self._turn % max(len(there), 1)
        there = there[turn:] + there[:turn]
        return sorted(there, key=lambda one: one[0].number != self.term.home)

    def each(
        self, ask: Callable[[ObjectStore], T], there: Sequence[Present] | None = None
    ) -> list[tuple[Member, T]]:
        """What each member answers; one that fails is missing then."""
        found = []
        for member, store in self.present() if there is None else there:
            try:
                found.append((member, ask(store)))
            except StoreUnavailableError as error:
                member.fail(error)
        return found

    def probe(self) -> list[Present]:
        """As ``present``, after each was asked whether it is there still."""
        for one in self.present():
            _is_there(one)
        return self.present()

    def missing(self) -> list[Member]:
        return [member for member in self.members if member.store is None]

    def writing(self) -> tuple[Present, list[Present]]:
        """(home, others) when a write may be tried. StoreUnavailableError (CopiesHomeMissing,
        CopiesTooFew)."""
        home, others = self.place()
        if not others:
            raise StoreUnavailableError(
                f"only {home[0].address} is left of {len(self.members)} disks; a write needs "
                f"{ENOUGH}: {self.why()}",
                code="CopiesTooFew",
                hint="Bring another disk back, or replace one: holdfast region adopt-disk. What is "
                "there is restored with holdfast store restore.",
            )
        return home, others

    def place(self) -> tuple[Present, list[Present]]:
        """(home, others) as they are there. StoreUnavailableError (CopiesHomeMissing)."""
        there = self.present()
        if not there or there[0][0].number != self.term.home or not self.term.filled:
            raise self._no_home()
        return there[0], there[1:]

    def _no_home(self) -> StoreUnavailableError:
        home = self.home
        what = f"{home.address}, which decides what is written, is missing" if home else "no disk"
        if home is not None and home.store is not None:
            what = f"{home.address} was not filled yet when it was to decide what is written"
        return StoreUnavailableError(
            f"{what}: {self.why()}" if home else f"none of the disks can be used: {self.why()}",
            code="CopiesHomeMissing",
            hint="Bring its disk back, or let another disk decide: holdfast region fail-over. "
            "Restores through the server wait for it too; holdfast store restore does not.",
        )

    def why(self) -> str:
        """Which members are missing, and why."""
        lost = self.missing()
        return "; ".join(f"{one.address}: {one.missing}" for one in lost) or "all disks are there"

    def check_term(self, store: ObjectStore) -> None:
        """StoreUnavailableError when a member knows of a later term: another process let another
        home decide, and what this one wrote may not count."""
        if marks.newest_term(store) > self.term.number:
            self.learn()
            raise StoreUnavailableError(
                "another disk was made to decide what is written while this was written",
                hint="it is tried again there",
            )

    def learn(self) -> None:
        """Take over the highest term of those that are there; who does not know it yet is brought
        in line."""
        with self._lock:
            terms = self.each(marks.read_term)
            self.term = _highest([self.term, *(term for _, term in terms)])
            for member, term in terms:
                if term.number < self.term.number:
                    member.look_anew()
            self.refresh()

    def collect_debts(self) -> bool:
        """Whether a member was missing for another process meanwhile, which deleted something: it
        is brought in line now. Asked when members differ in what they hold."""
        with self._lock:
            owing = [member for member, _ in self.present() if self._owes(member)]
            for member in owing:
                member.look_anew()
            self.refresh()
        return bool(owing)

    def _owes(self, member: Member) -> bool:
        return any(owes for _, owes in self.each(lambda one: marks.has_notes(one, member.number)))

    def begin_term(self, term: Term) -> None:
        """Write a term to every member that is there. ConflictError (CopiesMissing) when another
        process was quicker, StoreUnavailableError."""
        with self._lock:
            for _, store in self.present():
                marks.write_term(store, term)
                if marks.read_term(store) != term:
                    raise ConflictError(
                        "another process lets another disk decide",
                        code="CopiesMissing",
                        hint="look at the region, then ask again",
                    )
            self.term = term
            for member, _ in self.present():
                member.behind = False

    def lists(self, prefix: str = "", after: str = "") -> tuple[list[Member], list[Infos]]:
        """Members that are there and their lists; one that fails meanwhile ends its list and is
        missing then."""
        there = self.present()
        lists = [_listing(member, store, prefix, after) for member, store in there]
        return [member for member, _ in there], lists

    def refresh(self) -> None:
        """Look for members that are missing, and bring those in line that came."""
        with self._lock:
            due = [member for member in self.members if member.is_due()]
            opened = [one for one in map(self._opened, due) if one is not None]
            self._agree_on_set([mark for _, _, mark in opened])
            found = [one for one in (self._checked(*each) for each in opened) if one is not None]
            self.term = _highest([self.term, *(one.term for one in found)])
            came = [(one.member, one.store) for one in found]
            there = [(one, one.store) for one in self.members if one.store is not None]
            for one in found:
                others = [other for other in [*there, *came] if other[0] is not one.member]
                self._take_in(one, others)
            self._bring_in_line()

    def _opened(self, member: Member) -> tuple[Member, ObjectStore, Mark] | None:
        try:
            store = member.open_store()
            return member, store, require_mark(store)
        except HoldfastError as error:
            member.fail(error)
            return None

    def _agree_on_set(self, marks_found: Sequence[Mark]) -> None:
        """The set that most members are of, until one was taken in."""
        if not self.set_id and marks_found:
            counted = Counter(mark.set_id for mark in marks_found)
            self.set_id = counted.most_common(1)[0][0]

    def _checked(self, member: Member, store: ObjectStore, mark: Mark) -> Arrival | None:
        number, of = member.number, len(self.members)
        try:
            if (mark.set_id, mark.number, mark.of) == (self.set_id, number, of):
                return Arrival(member, store, mark, marks.read_term(store))
            raise StoreUnavailableError(
                f"it is number {mark.number} of the {mark.of} disks of set {mark.set_id[:8]}, and "
                f"should be number {number} of the {of} of set {self.set_id[:8]}",
                code="CopyOfAnotherSet",
            )
        except HoldfastError as error:
            member.fail(error)
            return None

    def _take_in(self, one: Arrival, others: Sequence[Present]) -> None:
        """Bring a member in line with those of the others that are there."""
        while True:
            try:
                return self._bring_to_terms(one, others)
            except HoldfastError as error:
                there = [other for other in others if _is_there(other)]
                if len(there) == len(others):
                    return one.member.fail(error)
                others = there

    def _bring_to_terms(self, one: Arrival, others: Sequence[Present]) -> None:
        """One that does not know the term yet is held against the home. Without a home that has
        everything it is there to be read from, and is looked at anew when there is one."""
        member, store = one.member, one.store
        home = next((store for other, store in others if other.number == self.term.home), None)
        behind = one.term.number < self.term.number and member.number != self.term.home
        copying.pay_debts(store, one.mark, [store for _, store in others])
        if behind and home is not None and self.term.filled:
            copying.put_strays_aside(store, home)
            behind = False
        if not behind:
            marks.write_term(store, self.term)
        member.store, member.missing, member.behind = store, "", behind
        self.arrivals += 1

    def _bring_in_line(self) -> None:
        """Those that came before the home did."""
        home = self.home
        late = [one for one in self.members if one.behind and one.store is not None]
        if late and home is not None and home.store is not None and self.term.filled:
            for member in late:
                member.look_anew()
            self.refresh()


def require_mark(store: ObjectStore) -> Mark:
    """StoreUnavailableError (CopyUnmarked) when a store is no member of a set."""
    mark = marks.read_mark(store)
    if mark is None:
        raise StoreUnavailableError(
            "it is no member of a set of copies: its disk is not mounted, or is new",
            code="CopyUnmarked",
        )
    return mark


def _is_there(one: Present) -> bool:
    try:
        require_mark(one[1])
    except HoldfastError as error:
        one[0].fail(error)
        return False
    return True


def _highest(terms: Sequence[Term]) -> Term:
    return max(terms, key=lambda term: (term.number, term.filled))


def _listing(member: Member, store: ObjectStore, prefix: str, after: str) -> Infos:
    try:
        yield from store.list(prefix, after)
    except StoreUnavailableError as error:
        member.fail(error)
