"""Soft delete's rules: settings that are changed at random, lives of items that are lived at
random, and how long what was deleted is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.lifecycle import RUNNING, SOFT_DELETED, STOPPED, check_item_step
from holdfast.domain.soft_delete import (
    STATES,
    SoftDelete,
    changed,
    is_due,
    is_upcoming,
    purge_time,
    read_settings,
    remaining_text,
    written,
)
from holdfast.errors import ConflictError, HoldfastError, UsageError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
WILD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.lists(st.none())
)
SPELT = st.sampled_from([*STATES, "AlwaysOn", "enabled", "DISABLED"])
REQUESTS = st.lists(
    st.tuples(
        st.one_of(SPELT, WILD), st.one_of(st.integers(10, 190), WILD), st.one_of(SPELT, WILD)
    ),
    max_size=8,
)


@given(REQUESTS)
def test_whatever_is_asked_the_setting_stays_one_of_azures(
    requests: list[tuple[object, object, object]],
) -> None:
    setting = SoftDelete()
    for request in requests:
        before = setting
        try:
            setting = changed(setting, *request)
        except HoldfastError as error:
            assert error.code and error.hint
        assert setting.state in STATES
        assert 14 <= setting.days <= 180
        if before.state == "AlwaysON":
            assert setting.state == "AlwaysON"
        assert read_settings(written(setting)) == setting


@pytest.mark.parametrize("days", [13, 181, 0, -1, True, "14", 14.0])
def test_days_out_of_range_are_refused(days: object) -> None:
    with pytest.raises(UsageError) as refused:
        changed(SoftDelete(), None, days, None)
    assert refused.value.code == "BMSUserErrorInvalidInput"
    assert changed(SoftDelete(), None, 14, None).days == 14
    assert changed(SoftDelete(), None, 180, None).days == 180


@pytest.mark.parametrize("state", ["Enabled", "Disabled", "disabled"])
def test_always_on_is_never_left(state: str) -> None:
    fixed = changed(SoftDelete(), "AlwaysOn", 30, None)
    assert fixed == SoftDelete("AlwaysON", 30, "Enabled")
    with pytest.raises(ConflictError) as refused:
        changed(fixed, state, None, None)
    assert refused.value.code == "BMSUserErrorSoftDeleteStateNotSetToAlwaysON"
    assert changed(fixed, "AlwaysON", 20, None).days == 20


def test_a_setting_nobody_can_read_keeps_data() -> None:
    assert read_settings({}) == SoftDelete("Enabled", 14, "Enabled")
    odd = {"softDeleteState": "banana", "softDeleteRetentionPeriodInDays": 5000}
    assert read_settings(odd) == SoftDelete("Enabled", 14, "Enabled")
    assert read_settings({"softDeleteState": "AlwaysOn"}).state == "AlwaysON"
    assert not read_settings({"softDeleteState": "Disabled"}).keeps


@given(MOMENTS, st.integers(14, 180), st.one_of(st.none(), MOMENTS), MOMENTS)
def test_deleted_data_is_kept_its_whole_period(
    deleted: datetime, days: int, newest: datetime | None, now: datetime
) -> None:
    end = purge_time(deleted, days, newest)
    assert end >= deleted + timedelta(days=days)
    assert newest is None or end >= newest + timedelta(days=days)
    assert is_due(end, now) == (now >= end)
    if now < end - timedelta(days=2):
        assert not is_upcoming(end, now)
    if is_due(end, now):
        assert remaining_text(end, now) == "0.00:00:00.0000000"
    assert not is_due(None, now)


def test_the_time_left_reads_as_azures() -> None:
    left = timedelta(days=13, hours=23, minutes=59, seconds=42, milliseconds=860)
    assert remaining_text(NOW + left, NOW) == "13.23:59:42.8600000"
    assert is_upcoming(NOW + timedelta(days=2), NOW)


ANY = sorted({*RUNNING, *STOPPED, SOFT_DELETED})


@given(st.lists(st.sampled_from(ANY), max_size=20))
def test_out_of_deletion_leads_only_stopped_protection(wishes: list[str]) -> None:
    """Nothing a client asks for takes an item from deleted to protected in one step."""
    state = "IRPending"
    for wish in wishes:
        try:
            check_item_step(state, wish)
        except ConflictError as error:
            if state == SOFT_DELETED:
                assert error.code == "UserErrorItemSoftDeleted"
                assert wish not in (SOFT_DELETED, "ProtectionStopped")
            continue
        if state == SOFT_DELETED:
            assert wish in (SOFT_DELETED, "ProtectionStopped")
        state = wish
    check_item_step(state, SOFT_DELETED)
