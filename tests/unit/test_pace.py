"""A pace holds work to its rates, and lets go when the work is over."""

from __future__ import annotations

import pytest

from holdfast.vaultstore.pace import Pace, unpaced


class Watch:
    """Time that passes only in ``sleep``, [s]."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def pace(watch: Watch, size: float, requests: float) -> Pace:
    return Pace(size, requests, watch.monotonic, watch.sleep)


@pytest.mark.parametrize(
    ("size", "requests", "seconds"),
    [(0, 0, 0.0), (1000, 0, 9.0), (0, 4, 2.25), (1000, 4, 9.0), (1000, 0.5, 18.0)],
)
def test_ten_requests_of_a_thousand_bytes_take_as_long_as_the_tighter_rate_says(
    size: float, requests: float, seconds: float
) -> None:
    watch = Watch()
    held = pace(watch, size, requests)
    for _ in range(10):
        held.pay(1, 1000)
    assert watch.now - 100.0 == pytest.approx(seconds)


def test_idle_time_is_not_saved_up() -> None:
    watch = Watch()
    held = pace(watch, 1000, 0)
    held.pay(1, 1000)
    watch.now += 3600
    held.pay(1, 5000)
    began = watch.now
    held.pay(1, 1)
    assert watch.now - began == pytest.approx(5.0)


def test_a_wait_ends_soon_after_a_cancel() -> None:
    watch = Watch()
    held = pace(watch, 1, 0)
    held.pay(1, 1_000_000)
    held.pay(1, 1, lambda: watch.now > 103)
    assert watch.now < 104


def test_without_limits_nothing_waits() -> None:
    held = unpaced()
    for _ in range(1000):
        held.pay(1, 1 << 30)
