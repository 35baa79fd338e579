"""How much room a disk's scratch area gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.adapters.hypervisor.qemu.scratch import FLOOR, LEAST, MIB, share
from holdfast.errors import LimitError

GIB = 1024 * MIB


def test_a_fifth_of_the_disk() -> None:
    assert share([20 * GIB, 100 * GIB], 1000 * GIB, 20) == [4 * GIB, 20 * GIB]


def test_small_disks_may_overwrite_all_of_theirs() -> None:
    (budget,) = share([32 * MIB], 1000 * GIB, 20)
    assert 32 * MIB < budget < LEAST


def test_a_folder_with_less_is_shared() -> None:
    first, second = share([20 * GIB, 40 * GIB], GIB, 20)
    assert first + second <= GIB
    assert second == pytest.approx(2 * first, abs=65536)


def test_a_folder_with_too_little_is_refused() -> None:
    with pytest.raises(LimitError) as small:
        share([20 * GIB, 40 * GIB], 5 * MIB, 20)
    assert small.value.code == "ScratchTooSmall"


@given(
    st.lists(st.integers(MIB, 100_000 * GIB), min_size=1, max_size=20),
    st.integers(0, 100_000 * GIB),
    st.integers(1, 100),
)
def test_never_more_than_there_is(sizes: list[int], free: int, percent: int) -> None:
    try:
        budgets = share(sizes, free, percent)
    except LimitError:
        return
    assert sum(budgets) <= free
    assert all(budget >= FLOOR for budget in budgets)
    assert all(budget % 65536 == 0 for budget in budgets)
