"""The members of a set: who is there, who decides, and what one that comes back must do first.

A member that comes back is brought in line before it takes part: its mark must name this set and
its number; what was deleted meanwhile is deleted there; and if another member became the home
meanwhile, what it alone holds, or holds differently, is put aside: nobody was ever told that it is
there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from holdfast.adapters.object_store.copies import copying, marks
from holdfast.adapters.object_store.copies.marks import Mark, Term
from holdfast.adapters.object_store.copies.member import Member
from holdfast.errors import ConflictError, HoldfastError, StoreUnavailableError
from holdfast.ports.object_store import ObjectInfo, ObjectStore

Present = tuple[Member, ObjectStore]
Infos = Iterator[ObjectInfo]
ENOUGH = 2  # members that hold a write before it is acknowledged


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
                "there can be restored.",
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
            hint="Bring its disk back, or let another disk decide: holdfast region fail-over. What "
            "is there can be restored.",
        )

    def why(self) -> str:
        """Which members are missing, and why."""
        lost = self.missing()
        return "; ".join(f"{one.address}: {one.missing}" for one in lost) or "all disks are there"

    def check_term(self, store: ObjectStore) -> None:
        """StoreUnavailableError when a member knows of a later term: another process let another
        home decide, and what this one wrote may not count."""
        if store.size(marks.home_key(self.term.number + 1)) is not None:
            self.learn()
            raise StoreUnavailableError(
                "another disk was made to decide what is written while this was written",
                hint="it is tried again there",
            )

    def learn(self) -> None:
        """Take over the highest term of those that are there; who does not know it yet is brought
        in line."""
        with self._lock:
            terms = {member.number: marks.read_term(store) for member, store in self.present()}
            self.term = _highest([self.term, *terms.values()])
            for number, term in terms.items():
                if term.number < self.term.number:
                    self.members[number - 1].look_anew()
            self.refresh()

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
            found = [one for one in map(self._opened, due) if one is not None]
            terms = [self.term, *(term for _, _, term in found)]
            self.term = _highest(terms)
            came = [(member, store) for member, store, _ in found]
            there = [(one, one.store) for one in self.members if one.store is not None]
            for member, store, term in found:
                others = [other for one, other in [*there, *came] if one is not member]
                self._take_in(member, store, term, others)

    def _opened(self, member: Member) -> tuple[Member, ObjectStore, Term] | None:
        try:
            store = member.open_store()
            mark = marks.read_mark(store)
            self._check_mark(member, mark)
            return member, store, marks.read_term(store)
        except HoldfastError as error:
            member.fail(error)
            return None

    def _check_mark(self, member: Member, mark: Mark | None) -> None:
        if mark is None:
            raise StoreUnavailableError(
                "it is no member of a set of copies: its disk is not mounted, or is new",
                code="CopyUnmarked",
            )
        own = Mark(self.set_id or mark.set_id, member.number, len(self.members))
        if mark != own:
            raise StoreUnavailableError(
                f"it is number {mark.number} of the {mark.of} disks of set {mark.set_id[:8]}, and "
                f"should be number {own.number} of the {own.of} of set {own.set_id[:8]}",
                code="CopyOfAnotherSet",
            )
        self.set_id = mark.set_id

    def _take_in(
        self, member: Member, store: ObjectStore, term: Term, others: Sequence[ObjectStore]
    ) -> None:
        try:
            copying.pay_debts(store, others, member.number)
            if term.number < self.term.number:
                copying.put_strays_aside(store, others)
            marks.write_term(store, self.term)
        except HoldfastError as error:
            member.fail(error)
            return
        member.store = store
        member.missing = ""
        self.arrivals += 1


def _highest(terms: Sequence[Term]) -> Term:
    return max(terms, key=lambda term: (term.number, term.filled))


def _listing(member: Member, store: ObjectStore, prefix: str, after: str) -> Infos:
    try:
        yield from store.list(prefix, after)
    except StoreUnavailableError as error:
        member.fail(error)
