"""Copies that are missing or damaged: found, written at a rate, resumable at any point.

Nothing about it is kept on a disk: what is missing is seen in the lists, what is damaged when it is
read. So a process that was killed begins by comparing the lists again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from holdfast.adapters.object_store.copies import copying, voting
from holdfast.adapters.object_store.copies.group import Group, Present
from holdfast.adapters.object_store.copies.member import Member
from holdfast.errors import HoldfastError, ObjectMissingError, StoreUnavailableError
from holdfast.ports.copied_store import CaughtUp, Shortage

log = logging.getLogger(__name__)
MOST_WANTED = 10_000  # beyond so many the lists are compared
SLICE_SECONDS = 0.5  # so often a wait looks whether it is still wanted
Asked = tuple[Member, str]
Work = Callable[["_Run", Member, str], None]


@dataclass
class _Run:
    """One run: what it may spend, and what it has done."""

    rate: float
    is_over: Callable[[], bool]
    copies: int = 0
    size: int = 0
    mended: int = 0
    left: int = 0
    _free_at: float = field(default_factory=time.monotonic)

    def pay(self, count: int) -> None:
        """Wait until so many bytes may be written."""
        self.size += count
        if self.rate:
            self._free_at = max(self._free_at, time.monotonic()) + count / self.rate
        while (left := self._free_at - time.monotonic()) > 0 and not self.is_over():
            time.sleep(min(left, SLICE_SECONDS))

    def told(self) -> CaughtUp:
        return CaughtUp(self.copies, self.size, self.mended, self.left)


class Replication:
    """Thread safe; one run at a time."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._wanted: set[Asked] = set()
        self._doubted: set[Asked] = set()
        self._mended: set[Asked] = set()  # once each: a disk that reads wrongly is not worn out
        self._scanned = -1  # arrivals of members when the lists were compared last
        self._lock = threading.Lock()
        self._running = threading.Lock()

    def want(self, member: Member, key: str) -> None:
        """A member lacks an object."""
        with self._lock:
            if len(self._wanted) < MOST_WANTED:
                self._wanted.add((member, key))
            else:
                self._scanned = -1

    def doubt(self, member: Member, key: str) -> None:
        """A member's object is not that of the others."""
        with self._lock:
            known = (member, key) in self._mended or (member, key) in self._doubted
            if not known:
                self._doubted.add((member, key))
        if not known:
            log.warning("%s gives other bytes of %s than other disks", member.address, key)

    def run(self, bytes_per_second: float, is_over: Callable[[], bool]) -> CaughtUp:
        """See ``CopiedStore.catch_up``."""
        run = _Run(bytes_per_second, is_over)
        with self._running:
            self._group.present()
            self._each(run, self._taken(self._wanted), self._copy)
            arrivals = self._group.arrivals
            if arrivals != self._scanned:
                self._scanned = arrivals  # before, so that who wants it again meanwhile gets it
                self._each(run, self._lacking(), self._copy)
            self._each(run, self._taken(self._doubted), self._mend)
            if run.left:
                self.scan_again()
        return run.told()

    def _each(self, run: _Run, asked: Iterable[Asked], work: Work) -> None:
        """What fails, or is not wanted any more now, is left for the next run."""
        for member, key in asked:
            if run.is_over():
                run.left += 1
                return
            try:
                if member.store is None:
                    run.left += 1
                else:
                    work(run, member, key)
            except HoldfastError as error:
                run.left += 1
                log.warning("no copy of %s on %s: %s", key, member.address, error.message)
                if isinstance(error, StoreUnavailableError):
                    member.fail(error)

    def _taken(self, asked: set[Asked]) -> list[Asked]:
        with self._lock:
            found = sorted(asked, key=lambda one: (one[1], one[0].number))
            asked.clear()
        return found

    def scan_again(self) -> None:
        """Compare the lists in the next run."""
        self._scanned = -1

    def copy(self, key: str, member: Member) -> bool:
        """Write an object to a member now; whether the member holds it."""
        store = member.store
        if store is None:
            return False
        self._copy(_Run(0, lambda: False), member, key)
        return store.size(key) is not None

    def fill(self, member: Member) -> None:
        """Write all that a member lacks. The first error ends it."""
        for lacking, key in self._lacking():
            if lacking is member:
                self._copy(_Run(0, lambda: False), member, key)

    def _copy(self, run: _Run, member: Member, key: str) -> None:
        """An object that is deleted meanwhile is not left behind: whoever deletes looks at every
        member again after it is gone from the home, and this looks at the others after writing."""
        if self._is_gone(key):
            self.scan_again()
            return
        target, others = member.store, self._others(member)
        size = self._size(key, others)
        if target is None or size is None:
            return
        before = target.size(key)
        if before is not None:
            if before != size:
                self.doubt(member, key)
            return
        read = _VotedReads(others)
        copying.copy(key, size, read, target, run.pay)
        if all(store.size(key) is None for _, store in others):
            target.delete(key)
            return
        run.copies += 1

    def _is_gone(self, key: str) -> bool:
        """Whether the home lacks it because another process deleted it."""
        home = self._group.home
        found = self._group.each(lambda store: store.size(key) is None)
        return (home, True) in found and self._group.collect_debts()

    def _mend(self, run: _Run, member: Member, key: str) -> None:
        """Put aside a copy that is not what two others hold, or the one that is long enough, and
        write it anew. One that reads well now was only read badly."""
        target, others = member.store, self._others(member)
        if target is None or any(copying.is_same(key, target, store) for _, store in others):
            return
        size = self._size(key, others)
        alone = len([1 for _, store in others if store.size(key) is not None]) < 2
        if size is None or (alone and target.size(key) == size):
            return  # nobody can tell which of the two is right
        with self._lock:
            self._mended.add((member, key))
        copying.put_aside(key, target)
        self._copy(run, member, key)
        run.mended += 1
        log.warning("%s was put aside on %s and written anew", key, member.address)

    def _others(self, member: Member) -> list[Present]:
        return [one for one in self._group.present() if one[0] is not member]

    @staticmethod
    def _size(key: str, there: list[Present]) -> int | None:
        return voting.take(there, lambda store: store.size(key), 0).value if there else None

    def _lacking(self) -> Iterator[Asked]:
        """What each member that is there lacks, or holds in another size than the home."""
        there, lists = self._group.lists()
        for key, sizes in copying.listed(lists):
            best = max(sizes.values())
            for number, member in enumerate(there):
                held = sizes.get(number)
                if held is None and best:
                    yield member, key
                elif held is not None and held < best:
                    self.doubt(member, key)

    def shortage(self, prefix: str) -> Shortage:
        """What fewer members hold than there are in the set."""
        _, lists = self._group.lists(prefix)
        objects = total = 0
        for _, sizes in copying.listed(lists):
            if len(sizes) < len(self._group.members):
                objects += 1
                total += max(sizes.values())
        return Shortage(objects, total)


class _VotedReads:
    """Reads for copying: two members agree, where two hold it."""

    def __init__(self, there: list[Present]) -> None:
        self._there = there

    def __call__(self, key: str, offset: int, length: int) -> bytes:
        vote = voting.take(self._there, lambda store: store.read_range(key, offset, length), 0)
        if vote.value is None:
            raise vote.error or ObjectMissingError(f"no object {key}")
        return vote.value
