"""An object store over several members, each of which holds every object.

    operation  the home          another member           acknowledged, or told
    ---------  ----------------  -----------------------  --------------------------------------
    create     first: decides    after it, side by side   when the home and one other hold it
    read       asked with one other; a third decides      what two hold; one copy is doubled first
    delete     last              before it, and looked    when no member that is there holds it, and
                                 at again after it        two note what a missing one still holds

So what anybody was told of is on two disks. docs/design/copies.md has the argument.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import TypeVar

from holdfast.adapters.object_store.copies import changing, copying, marks, voting
from holdfast.adapters.object_store.copies.followers import Followers
from holdfast.adapters.object_store.copies.following import Following
from holdfast.adapters.object_store.copies.group import Group, Present
from holdfast.adapters.object_store.copies.member import Member
from holdfast.adapters.object_store.copies.replication import Replication
from holdfast.adapters.object_store.copies.thorough import ThoroughStore
from holdfast.adapters.object_store.copies.upload import CopiesUpload
from holdfast.adapters.object_store.rules import check_content, check_key, check_prefix, check_span
from holdfast.crashpoint import reach
from holdfast.errors import (
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
    StoreUnavailableError,
    UsageError,
)
from holdfast.ports.copied_store import CaughtUp, CopyMember, Shortage
from holdfast.ports.object_store import Buffer, ObjectInfo, ObjectStore, StoreTraits

log = logging.getLogger(__name__)
T = TypeVar("T")
Writes = Sequence[tuple[Present, Callable[[], None]]]


class CopiesStore:
    """``members`` in the order of their numbers, from 1."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._followers = Followers()
        self.group = Group(members)
        self._replication = Replication(self.group)
        self._turn = 0
        self._lone: set[str] = set()  # told of while only one member could be asked
        self._unclear: set[str] = set()  # created here, and not acknowledged
        self._lock = threading.Lock()

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("copies", atomic_create=True, durable=True)

    # writing

    def create(self, key: str, data: Buffer) -> None:
        check_content(_checked(key), memoryview(data).nbytes)
        body = bytes(data)
        home, others = self.writable(key)
        self.decide(home, partial(home[1].create, key, body))
        self.follow(key, home, [(one, partial(one[1].create, key, body)) for one in others])

    def upload(self, key: str) -> CopiesUpload:
        home, others = self.writable(_checked(key))
        return CopiesUpload(self, key, home, others)

    def writable(self, key: str) -> tuple[Present, list[Present]]:
        """(home, others) for a create of ``key``. An object that the home has lost is an object: it
        is put back there. StoreUnavailableError, ObjectExistsError."""
        home, others = self.group.writing()
        self._double_lone()
        found = self.group.each(lambda store: store.size(key), others)
        if any(size is not None for _, size in found) and self.size(key) is not None:
            raise ObjectExistsError(f"object {key} exists")
        return home, others

    def decide(self, home: Present, write: Callable[[], None]) -> None:
        """What counts: a create first of all, a delete last of all."""
        try:
            write()
        except StoreUnavailableError as error:
            home[0].fail(error)
            raise
        reach("copies.home.after")

    def follow(self, key: str, home: Present, writes: Writes) -> None:
        """Write what the home has taken to the others; returns when one of them holds it too.
        StoreUnavailableError when none does: it may be there later."""
        with self._lock:
            self._unclear.add(key)
        todo = self._started(key, home, writes)
        while todo:
            done, todo = wait(todo, return_when=FIRST_COMPLETED)
            if any(future.result() for future in done):
                with self._lock:
                    self._unclear.discard(key)
                reach("copies.acknowledged")
                return
        raise StoreUnavailableError(
            f"{key} reached only {home[0].address}: {self.group.why()}",
            hint="nothing that was committed is affected; look at the other disks",
        )

    def _started(self, key: str, home: Present, writes: Writes) -> set[Future[bool]]:
        """Copies under way. A member whose queue is full is passed over, unless it is the last."""
        todo: set[Future[bool]] = set()
        for number, (to, write) in enumerate(writes, 1):
            work = Following(
                key, home[1], to, write, group=self.group, replication=self._replication
            )
            must = not todo and number == len(writes)
            started = self._followers.start(to[0].number, key, work, must)
            if started is not None:
                todo.add(started)
            else:
                work.give_up()
        return todo

    def double(self, key: str) -> None:
        """Have what the home holds on one more member. StoreUnavailableError."""
        with self._lock:
            self._lone.add(key)
        self._double_lone()

    def beside(self, member: Member, key: str, work: Callable[[], bool]) -> Future[bool] | None:
        """Do a piece of work for a member that follows, of which the caller waits for the end."""
        return self._followers.start(member.number, key, work, must=True)

    def settle(self) -> None:
        """Wait until third copies that are under way are written."""
        self._followers.settle()

    # reading

    def read(self, key: str, thorough: bool = False) -> bytes:
        return self._told(_checked(key), lambda store: store.read(key), thorough)

    def read_range(self, key: str, offset: int, length: int, thorough: bool = False) -> bytes:
        check_span(_checked(key), offset, length)
        return self._told(key, lambda store: store.read_range(key, offset, length), thorough)

    def thorough(self) -> ObjectStore:
        return ThoroughStore(self)

    def size(self, key: str) -> int | None:
        vote = self._vote(_checked(key), lambda store: store.size(key))
        return vote.value

    def _told(self, key: str, ask: Callable[[ObjectStore], T], thorough: bool) -> T:
        vote = self._vote(key, ask, thorough)
        if vote.value is None:
            raise vote.error or ObjectMissingError(f"no object {key}")
        return vote.value

    def _vote(self, key: str, ask: voting.Ask[T], thorough: bool = False) -> voting.Vote[T]:
        vote = self._asked(ask, thorough)
        if vote.split:  # the third copy, which decides, may be under way
            self._followers.wait_for(key)
            vote = self._asked(ask, thorough)
        home = self.group.home
        lone = vote.held == 1 and vote.lacking
        odd = vote.split or vote.wrong or lone or home in vote.lacking
        if vote.value is not None and odd and self.group.collect_debts():
            vote = self._asked(ask, thorough)
        for member in vote.wrong:
            member.wrong += 1
            self._replication.doubt(member, key)
        if vote.value is not None and vote.held == 1:
            self._double(key, vote.lacking)
        elif vote.value is not None:
            self._unclear.discard(key)
            for member in vote.lacking:
                self._replication.want(member, key)
        return vote

    def _asked(self, ask: voting.Ask[T], thorough: bool) -> voting.Vote[T]:
        self._turn += 1
        there = self.group.present()
        if not there:
            raise StoreUnavailableError(
                f"none of the disks can be used: {self.group.why()}", hint="bring a disk back"
            )
        return voting.take(there, ask, self._turn, thorough)

    def _double(self, key: str, lacking: Sequence[Member]) -> None:
        """What only one member has is written to another before anybody is told of it. What this
        process failed to create must not be taken for created: StoreUnavailableError."""
        for member in lacking:
            try:
                if self._replication.copy(key, member):
                    with self._lock:
                        self._unclear.discard(key)
                    return
            except StoreError as error:
                log.warning("%s cannot be copied to %s: %s", key, member.address, error.message)
        with self._lock:
            self._lone.add(key)
            unclear = key in self._unclear
        if unclear:
            raise StoreUnavailableError(
                f"{key} is on one disk only: {self.group.why()}", hint="look at the other disks"
            )

    def _double_lone(self) -> None:
        """Before anything is written: what was told of while only one member could be asked may be
        what the write rests on."""
        while True:
            with self._lock:
                key = next(iter(self._lone), None)
            if key is None:
                return
            lacking = self._lacking(key)
            if lacking and not any(self._replication.copy(key, member) for member in lacking):
                raise StoreUnavailableError(f"{key} is on one disk only and cannot be copied")
            with self._lock:
                self._lone.discard(key)

    def _lacking(self, key: str) -> list[Member]:
        """Members to copy to; none when two hold it, or nobody."""
        found = self.group.each(lambda store: store.size(key))
        lacking = [member for member, size in found if size is None]
        return lacking if len(found) - len(lacking) == 1 else []

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        there, lists = self.group.lists(prefix, after)
        for key, sizes in copying.listed(lists):
            yield ObjectInfo(key, max(sizes.values()))
        if all(member.store is None for member in there):
            raise StoreUnavailableError(f"none of the disks can be listed: {self.group.why()}")

    # deleting

    def delete(self, key: str) -> None:
        _checked(key)
        home, others = self.group.writing()
        for member in self.group.missing():
            self._note_debt(member, key)
        self._followers.wait_for(key)
        for one in others:
            self._delete_from(one, key)
        reach("copies.delete.others")
        self.decide(home, partial(home[1].delete, key))
        for one in others:  # a copy under way in another process
            self._delete_from(one, key)
        with self._lock:
            self._lone.discard(key)
            self._unclear.discard(key)

    def _delete_from(self, one: Present, key: str) -> None:
        member, store = one
        if member.store is None:
            return
        try:
            store.delete(key)
        except StoreUnavailableError as error:
            member.fail(error)
            self._note_debt(member, key)

    def _note_debt(self, owing: Member, key: str) -> None:
        """Two members note what one that is missing must delete when it comes back."""
        note, term = secrets.token_hex(16), self.group.term.number
        noted = self.group.each(
            lambda store: marks.write_note(store, owing.number, note, term, key)
        )
        if len(noted) < min(2, len(self.group.members) - 1):
            raise StoreUnavailableError(f"{key} was not deleted: {self.group.why()}")

    def free_bytes(self) -> int | None:
        found = self.group.each(lambda store: store.free_bytes())
        known = [free for _, free in found if free is not None]
        return min(known) if known else None

    # what the port of copies adds

    def members(self) -> Sequence[CopyMember]:
        self.group.probe()
        home = self.group.term.home
        return [member.told(home) for member in self.group.members]

    def shortage(self, prefix: str = "") -> Shortage:
        return self._replication.shortage(check_prefix(prefix))

    def catch_up(self, bytes_per_second: float, is_over: Callable[[], bool]) -> CaughtUp:
        return self._replication.run(bytes_per_second, is_over)

    def adopt(self, number: int) -> None:
        changing.adopt(self.group, number)
        self._replication.scan_again()

    def fail_over(self, number: int, accept_loss: bool = False) -> None:
        changing.fail_over(self.group, number, accept_loss, self._replication.fill)
        self._replication.scan_again()


def _checked(key: str) -> str:
    if marks.is_ours(check_key(key)):
        raise UsageError(f"{key} is kept for the set of copies", code="InvalidObjectKey")
    return key
