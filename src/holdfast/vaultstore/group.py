"""Group commit: steps that wait for the log at the same moment share one record.

Whoever comes puts itself in the queue and then waits for the vault's lock, as it would without a
group. Whoever gets the lock leads: it takes along all who queue behind it, and they find their work
done. Nobody waits for company, so a lone writer writes as soon as it did before.

Each member decides on the state that those before it in the record lead to. One whose operations do
not fit, or that refuses, is left for a later record, where it is the first and decides on what is
true by then: an error is told only on a state that is in the log. And nobody is told anything
before the record is durable. When writing it fails, that error is the leader's; the others
are still in the queue, and the next of them finds out what became of the record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from holdfast.vaultstore import log
from holdfast.vaultstore.chain import Build
from holdfast.vaultstore.state import InvalidRecordError, LogState
from holdfast.vaultstore.transitions import apply_operation

MOST_MEMBERS = 64  # of one record
Append = Callable[[Build], LogState]


class Member:
    """A step that waits. ``after``: the state its record led to; ``error``: how it refused."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.after: LogState | None = None
        self.error: Exception | None = None
        self.settled = False

    def settle(self, after: LogState) -> None:
        """Let it be told: what it decided is in the store."""
        self.after = after
        self.settled = True

    def result(self) -> LogState:
        """What it is told, once it is settled."""
        if self.error is not None or self.after is None:
            raise self.error or InvalidRecordError("a step of the log was not settled")
        return self.after


class Group:
    """The queue of one vault's steps that may share a record."""

    def __init__(self) -> None:
        self._waiting: list[Member] = []
        self._guard = threading.Lock()

    def share(self, lock: AbstractContextManager[object], build: Build, append: Append) -> LogState:
        """As ``append``, which needs ``lock``; in one record with others that wait for it. Raises
        what ``build`` or ``append`` raise.

        ``build`` may run in another thread, under the lock, and again after it took effect: then it
        must return nothing."""
        member = Member(build)
        with self._guard:
            self._waiting.append(member)
        try:
            with lock:
                if not member.settled:
                    self._lead(member, append)
        finally:
            self._leave([member])
        return member.result()

    def _lead(self, leader: Member, append: Append) -> None:
        with self._guard:
            others = [one for one in self._waiting if one is not leader and not one.settled]
        batch = [leader, *others[: MOST_MEMBERS - 1]]
        heard: list[Member] = []

        def together(state: LogState) -> Sequence[log.Operation]:
            heard[:], operations = composed(state, batch)
            return operations

        after = append(together)
        for member in heard:
            member.settle(after)
        self._leave(heard)

    def _leave(self, members: Sequence[Member]) -> None:
        with self._guard:
            self._waiting = [one for one in self._waiting if one not in members]


def composed(
    state: LogState, batch: Sequence[Member]
) -> tuple[list[Member], tuple[log.Operation, ...]]:
    """Who of a batch is heard by the record after ``state``, and its operations."""
    heard: list[Member] = []
    taken: list[log.Operation] = []
    so_far, alone = state, len(batch) == 1
    for member in batch:
        member.error = None
        try:
            wanted = tuple(member.build(so_far))
            if wanted and not alone:
                so_far = _extended(so_far, state, wanted)
        except Exception as error:  # noqa: BLE001 - one member's failure is its own
            if taken:  # on a state that is not true yet
                so_far = _extended(state, state, taken)
                continue
            so_far, member.error = state, error
            heard.append(member)
            continue
        taken += wanted
        heard.append(member)
    return heard, tuple(taken)


def _extended(so_far: LogState, base: LogState, wanted: Sequence[log.Operation]) -> LogState:
    """The state after these operations of the record that follows ``base``; changes ``so_far``
    unless it is that. InvalidRecordError."""
    result = so_far.copy() if so_far is base else so_far
    result.sequence = base.sequence + 1
    for operation in wanted:
        if _clashes(result, operation):
            raise InvalidRecordError("a session of an item begins in the record of its new point")
        apply_operation(operation, result)
    return result


def _clashes(state: LogState, operation: log.Operation) -> bool:
    """A session and a point of an item are ordered by their records' numbers, so a session that has
    the point as its parent cannot begin in that point's record."""
    if not isinstance(operation, log.SessionOpened) or operation.kind != "backup":
        return False
    return state.item_commits.get(operation.item_key) == state.sequence
