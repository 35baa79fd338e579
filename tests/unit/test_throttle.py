"""The speed limit of an item: how it is typed, and that sending keeps to it."""

from __future__ import annotations

import pytest

from holdfast.cli.rates import Rate, rate_text
from holdfast.workloads.packing import Throttle


def test_what_is_sent_takes_the_time_its_bytes_need() -> None:
    waited: list[float] = []
    throttle = Throttle(lambda: 2_000, waited.append)
    for count in (1_000, 5_000, 1):
        throttle.spend(count)
    assert sum(waited) == pytest.approx(6_001 / 2_000)


def test_without_a_limit_nothing_waits() -> None:
    waited: list[float] = []
    Throttle(lambda: None, waited.append).spend(1 << 40)
    assert waited == []


@pytest.mark.parametrize(
    ("typed", "rate", "shown"),
    [
        ("20MB", 20_000_000, "20.0 MB/s"),
        ("1.5MiB/s", 1_572_864, "1.6 MB/s"),
        ("500k", 500_000, "500.0 kB/s"),
        ("1000", 1_000, "1.0 kB/s"),
        ("2 GB/s", 2_000_000_000, "2.0 GB/s"),
        ("0", 0, "none"),
        ("none", 0, "none"),
    ],
)
def test_rates_as_people_type_them(typed: str, rate: int, shown: str) -> None:
    assert Rate().convert(typed, None, None) == rate
    assert rate_text(rate) == shown
