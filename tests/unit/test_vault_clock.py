"""When the server's clock is trusted, and what a record's time is then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConflictError
from holdfast.testing.ports import MovableClock
from holdfast.vaultstore.vaultclock import VaultClock, from_ns, to_ns

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("jump", "trusted"),
    [
        (timedelta(0), True),
        (timedelta(minutes=4), True),
        (timedelta(minutes=6), False),
        (timedelta(minutes=-4), True),
        (timedelta(minutes=-6), False),
        (timedelta(days=-400), False),
    ],
)
def test_a_running_server_tolerates_five_minutes(jump: timedelta, trusted: bool) -> None:
    clock = MovableClock(START)
    judge = VaultClock(clock, to_ns(START))
    assert judge.doubt(to_ns(START)) == ""
    clock.pass_time(timedelta(days=30))
    head = to_ns(clock.now())
    assert judge.doubt(head) == "", "time that passed is no jump"
    clock.jump(jump)
    assert (judge.doubt(head) == "") == trusted


class LeapingClock(MovableClock):
    """Somebody sets it ahead right after each reading."""

    def now(self) -> datetime:
        read = super().now()
        self.jump(timedelta(days=30))
        return read


def test_a_clock_set_between_two_readings_moves_no_time() -> None:
    """Found by seed 165 of the simulation: one reading was judged, and another one stamped."""
    head = to_ns(START)
    assert VaultClock(LeapingClock(START), head).stamp_ns(head) == head


@pytest.mark.parametrize(("days", "trusted"), [(0, True), (6, True), (8, False), (-1, False)])
def test_a_restarted_server_tolerates_seven_days(days: int, trusted: bool) -> None:
    clock = MovableClock(START + timedelta(days=days))
    judge = VaultClock(clock, to_ns(START))
    assert (judge.doubt(to_ns(START)) == "") == trusted


def test_small_steps_do_not_add_up_unseen() -> None:
    """A clock that runs away a little at each look is followed, one that leaps is not."""
    clock = MovableClock(START)
    judge = VaultClock(clock, to_ns(START))
    judge.doubt(to_ns(START))
    clock.jump(timedelta(hours=1))
    for _ in range(5):
        assert judge.doubt(to_ns(START)), "doubt does not wear off by asking again"
    clock.jump(timedelta(hours=-1))
    assert judge.doubt(to_ns(START)) == ""


@given(st.integers(-3000, 3000), st.integers(0, 3000))
def test_vault_time_never_goes_back_and_never_follows_a_doubtful_clock(
    jump_minutes: int, later_minutes: int
) -> None:
    clock = MovableClock(START)
    head = to_ns(START)
    judge = VaultClock(clock, head)
    judge.doubt(head)
    clock.jump(timedelta(minutes=jump_minutes))
    stamp = judge.stamp_ns(head)
    assert stamp >= head
    if abs(jump_minutes) > 5:
        assert stamp == head
        with pytest.raises(ConflictError) as refused:
            judge.require_trust(head, "expiry")
        assert refused.value.code == "ClockUntrusted"
        assert judge.confirm() == to_ns(clock.now())
    clock.pass_time(timedelta(minutes=later_minutes))
    assert judge.doubt(judge.now_ns()) == ""


@given(st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_times_survive_nanoseconds(moment: datetime) -> None:
    assert from_ns(to_ns(moment)) == moment
