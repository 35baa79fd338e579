"""How a guest's slow writes slow a backup down: for its sake, never for ever, never for nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.guest_pace import (
    CEILING,
    FLOOR,
    SECOND,
    Counts,
    GuestPace,
    Written,
    took,
    usual,
)

MS = 1_000_000  # in nanoseconds
BOUND = 50 * MS
MIB = 1 << 20
SIZES = st.integers(1, 8 * MIB)


class Second(NamedTuple):
    """What the guest did in a second: writes of a disk, and how long each took [ns]."""

    writes: int
    each: int


SECONDS = st.builds(Second, st.integers(0, 500), st.integers(0, 2000 * MS))
WRITING = st.builds(Second, st.integers(1, 500), st.integers(0, 2000 * MS))
SLOW = st.builds(Second, st.integers(1, 500), st.integers(BOUND + 1, 2000 * MS))
QUICK = st.builds(Second, st.integers(1, 500), st.integers(0, BOUND * 3 // 4))


class Guest:
    """Disks whose counts grow; one that is not told of writes nothing."""

    def __init__(self, *disks: str) -> None:
        self.counts: dict[str, Written] = dict.fromkeys(disks or ("vda",), Written(1000, 10**9))

    def live(self, second: Second, disk: str = "vda") -> Counts:
        writes, spent = self.counts[disk]
        self.counts[disk] = Written(writes + second.writes, spent + second.writes * second.each)
        return dict(self.counts)


def run(pace: GuestPace, seconds: Sequence[Second], size: int) -> list[int]:
    """Reads as fast as the pace lets, up to 200 a second; the bytes of each second."""
    guest, read = Guest(), []
    pace.count(0.0, guest.counts)
    for number, second in enumerate(seconds):
        now, done = float(number), 0
        for _ in range(200):
            now += pace.wait(now)
            if now >= number + 1:
                break
            pace.begin(now, size)
            done += size
        read.append(done)
        pace.count(number + 1.0, guest.live(second))
    return read


@given(st.lists(SECONDS, min_size=1, max_size=60), SIZES)
def test_a_backup_ends_whatever_the_guest_does(seconds: list[Second], size: int) -> None:
    read = run(GuestPace(BOUND, {}), seconds, size)
    possible = min(FLOOR, 200 * size)  # bytes a second
    assert sum(read) >= possible * len(read) - 2 * size


@given(st.lists(st.one_of(QUICK, st.just(Second(0, 0))), min_size=1, max_size=40), SIZES)
def test_quick_writes_never_make_it_wait(seconds: list[Second], size: int) -> None:
    assert run(GuestPace(BOUND, {}), seconds, size) == [200 * size] * len(seconds)


@given(st.lists(WRITING, max_size=40), SIZES)
def test_nobody_waits_for_a_guest_that_writes_nothing(seconds: list[Second], size: int) -> None:
    """Whatever was before: a read that waited begins, and all that follow."""
    pace = GuestPace(BOUND, {})
    guest = Guest()
    pace.count(0.0, guest.counts)
    now = 0.0
    for second in seconds:
        pace.begin(now, size)
        now += 1
        pace.count(now, guest.live(second))
    pace.begin(now, size)
    silence = math.ceil(max(1.0, 2 * seconds[-1].each / SECOND)) if seconds else 1
    for _ in range(silence):
        now += 1
        pace.count(now, guest.live(Second(0, 0)))
    assert pace.wait(now) == 0
    pace.begin(now, size)
    assert pace.wait(now) == 0


def test_writes_that_take_seconds_are_no_silence() -> None:
    """One ends every third second; in between the guest is waited for all the same."""
    pace, guest, rates = GuestPace(BOUND, {}), Guest(), []
    pace.count(0.0, guest.counts)
    for number in range(1, 31):
        pace.begin(number - 0.5, 100 * MIB)
        ended = Second(1, 3000 * MS) if number % 3 == 0 else Second(0, 0)
        pace.count(float(number), guest.live(ended))
        rates.append(pace.rate)
    assert None not in rates[2:]


@given(st.lists(SLOW, min_size=8, max_size=30))
def test_slow_writes_bring_it_down_to_the_floor_and_quick_ones_up_again(
    slow: list[Second],
) -> None:
    pace = GuestPace(BOUND, {})
    read = run(pace, slow, MIB)
    assert read[0] == 200 * MIB
    assert all(later <= max(before, FLOOR + MIB) for before, later in itertools.pairwise(read))
    assert read[-1] <= FLOOR + MIB
    rates = []
    guest, now = Guest(), float(len(slow))
    for _ in range(60):
        now += 1
        pace.begin(now, MIB)
        pace.count(now, guest.live(Second(10, MS)))
        rates.append(pace.rate or CEILING)
    assert rates == sorted(rates)
    assert pace.rate is None


@given(WRITING, WRITING)
def test_the_slowest_disk_counts(one: Second, other: Second) -> None:
    """A quick disk with many writes hides no slow one."""
    paces = []
    for swapped in (False, True):
        guest, pace = Guest("vda", "vdb"), GuestPace(BOUND, {})
        pace.count(0.0, guest.counts)
        pace.begin(0.0, 100 * MIB)
        guest.live(other if swapped else one, "vda")
        pace.count(1.0, guest.live(one if swapped else other, "vdb"))
        paces.append(pace.rate is not None)
    slow = any(second.each > BOUND for second in (one, other))
    assert paces == [slow, slow]


@given(st.integers(1, 1000), st.floats(0.1, 100))
def test_writes_that_always_took_as_long_slow_nothing_down(base_ms: int, part: float) -> None:
    """The base line: storage that is slow anyway is not made quicker by a backup that waits."""
    usually = base_ms * MS
    pace, guest = GuestPace(BOUND, {"vda": float(usually)}), Guest()
    pace.count(0.0, guest.counts)
    pace.begin(0.0, 100 * MIB)
    each = int(usually * part)
    pace.count(1.0, guest.live(Second(10, each)))
    assert (pace.rate is not None) == (each > max(BOUND, 1.5 * usually))


def test_an_interval_without_reads_is_not_to_blame() -> None:
    """The vault is slow, or away: the guest's storage is busy with something else."""
    pace, guest = GuestPace(BOUND, {}), Guest()
    pace.count(0.0, guest.counts)
    pace.count(1.0, guest.live(Second(10, 100 * MS)))
    assert pace.rate is None
    assert pace.worst == 100 * MS


def test_how_long_writes_usually_take() -> None:
    """Just before the backup; of a disk that wrote too little then, since the machine's start."""
    before = {"vda": Written(100, 1000), "vdb": Written(100, 1000), "vdc": Written(0, 0)}
    after = {"vda": Written(110, 1500), "vdb": Written(102, 9000), "vdc": Written(2, 8)}
    assert usual(before, after) == {"vda": 50.0, "vdb": pytest.approx(9000 / 102)}


def test_counts_that_began_anew_say_nothing() -> None:
    """A machine that was started again meanwhile, a disk that was added."""
    before = {"vda": Written(100, 1000)}
    assert took(before, {"vda": Written(3, 10), "vdb": Written(5, 50)}) == {}
