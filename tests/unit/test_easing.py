"""Reads that wait for the guest: when the machine cannot be asked, when the backup is to stop, and
how long they waited."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from holdfast.agent.vm.easing import Easing
from holdfast.domain.guest_pace import FLOOR, Counts, Written
from holdfast.errors import SourceError

NOW = datetime(2026, 5, 10, tzinfo=UTC)
BOUND_MS = 50.0
MIB = 1 << 20


class Host:
    """A clock that goes on only when somebody waits, and a guest each of whose writes takes
    ``each_ms``; ``away``: its machine does not answer."""

    def __init__(self, each_ms: float = 100.0) -> None:
        self.each_ms, self.away, self.asked = each_ms, False, 0
        self.time = 100.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        with self._lock:
            self.time += seconds

    def writes(self) -> Counts:
        self.asked += 1
        if self.away:
            raise SourceError("the monitor hung up", code="MachineLost")
        writes = int(self.time * 10)
        return {"vda": Written(writes, int(writes * self.each_ms * 1e6))}

    def easing(self, bound_ms: float = BOUND_MS) -> Easing:
        return Easing(bound_ms, self, self.wait)


def transfer(host: Host, easing: Easing, reads: int, stopped: Callable[[], bool]) -> None:
    """Reads of a MiB, 100 a second if nothing holds them back."""
    easing.begin({}, host.writes)
    host.each_ms *= 10  # than before
    for _ in range(reads):
        easing.pace(MIB, stopped)
        host.wait(0.01)


def never() -> bool:
    return False


def test_reads_wait_while_writes_are_slow_and_it_is_told_how_long() -> None:
    host = Host()
    easing, began = host.easing(), host.time
    transfer(host, easing, 400, never)
    took = host.time - began
    assert took > 10
    assert easing.waited_ms / 1000 + 400 * 0.01 <= took + 0.1
    assert easing.waited_ms / 1000 > took / 2
    assert took <= 400 * MIB / FLOOR + 2
    assert easing.worst_ms >= BOUND_MS


def test_nothing_is_asked_and_nobody_waits_when_it_is_switched_off() -> None:
    host = Host()
    easing = host.easing(0)
    transfer(host, easing, 400, never)
    assert (easing.waited_ms, host.asked) == (0, 0)


def test_a_machine_that_does_not_answer_any_more_is_not_waited_for() -> None:
    host = Host()
    easing = host.easing()
    easing.begin({}, host.writes)
    host.each_ms *= 10
    for _ in range(300):
        easing.pace(MIB, never)
        host.wait(0.01)
    waited, asked = easing.waited_ms, host.asked
    assert waited > 0
    host.away = True
    host.wait(2)
    for _ in range(300):
        easing.pace(MIB, never)
        host.wait(0.01)
    assert (easing.waited_ms, host.asked) == (waited, asked + 1)


def test_a_machine_that_never_answered_is_not_waited_for() -> None:
    host = Host()
    host.away = True
    easing = host.easing()
    transfer(host, easing, 400, never)
    assert easing.waited_ms == 0


def test_a_backup_that_is_to_stop_stops_waiting() -> None:
    host = Host()
    easing, left = host.easing(), iter([False] * 350)
    transfer(host, easing, 400, lambda: next(left, True))
    assert host.time < 100 + 400 * MIB / FLOOR / 2


def test_waits_of_several_threads_at_once_count_once() -> None:
    host = Host()
    easing = host.easing()
    easing.begin({}, host.writes)
    host.each_ms *= 10
    for _ in range(200):
        easing.pace(8 * MIB, never)
        host.wait(0.01)
    before, began = easing.waited_ms, host.time
    threads = [threading.Thread(target=easing.pace, args=(8 * MIB, never)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < easing.waited_ms - before <= (host.time - began) * 1000 + 1
