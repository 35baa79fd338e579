"""When a policy's restore test is due, and what a policy may ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.domain.restore_tests import RestoreTests, is_due, read_restore_tests
from holdfast.errors import UsageError

NOW = datetime(2026, 5, 10, 2, 0, tzinfo=UTC)


def test_what_a_policy_asks_for() -> None:
    assert read_restore_tests({}) is None
    asked = {"restoreTest": {"everyDays": 7, "script": "true"}}
    assert read_restore_tests(asked) == RestoreTests(7, "true", 300)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"everyDays": 0},
        {"everyDays": 366},
        {"everyDays": "7"},
        {"everyDays": True},
        {"everyDays": 7, "timeoutSeconds": 0},
        {"everyDays": 7, "script": 5},
        {"everyDays": 7, "script": "x" * 32_769},
        [],
    ],
)
def test_what_no_policy_may_ask_for(wrong: Any) -> None:
    with pytest.raises(UsageError) as refused:
        read_restore_tests({"restoreTest": wrong})
    assert refused.value.code == "UserErrorInvalidPolicyInput"


def test_a_test_is_due_at_the_same_hour_some_days_later() -> None:
    weekly = RestoreTests(7, "", 300)
    assert is_due(weekly, None, NOW)
    assert not is_due(weekly, NOW - timedelta(days=6), NOW)
    assert is_due(weekly, NOW - timedelta(days=7) + timedelta(minutes=5), NOW)
    assert is_due(weekly, NOW + timedelta(days=1), NOW)
