"""``$filter`` as the Azure clients write it, and refused when it cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.arm.filters import parse_date, parse_filter
from holdfast.errors import UsageError


def test_keys_in_any_case_joined_by_and() -> None:
    text = "backupManagementType eq 'MAB' and Status eq 'In''Progress' AND count eq 3"
    assert parse_filter(text) == {
        "backupmanagementtype": "MAB",
        "status": "In'Progress",
        "count": "3",
    }
    assert parse_filter("") == {}


def test_and_inside_a_value_is_text() -> None:
    assert parse_filter("name eq 'a and b eq c'") == {"name": "a and b eq c"}


@pytest.mark.parametrize(
    "text",
    ["x", "x eq", "x eq 'a", "x eq 'a' or y eq 'b'", "x eq 'a' and", "x eq 'a' y eq 'b'", "'" * 9],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_filter(text)
    assert raised.value.code == "InvalidFilter"
    assert parse_filter(text, lenient=True) == {}


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_filter(text)
    except UsageError:
        return
    assert all(key == key.lower() for key in found)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), st.text(max_size=30), max_size=5
    )
)
def test_what_a_client_writes_is_read_back(terms: dict[str, str]) -> None:
    text = " and ".join(
        f"{key} eq '{value.replace(chr(39), chr(39) * 2)}'" for key, value in terms.items()
    )
    if len(text) <= 4096:
        assert parse_filter(text) == terms


def test_dates_of_the_clients() -> None:
    assert parse_date("2026-11-01 12:00:00 AM") == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_date("2026-11-01 01:30:00 PM") == datetime(2026, 11, 1, 13, 30, tzinfo=UTC)
    assert parse_date("2026-11-01T02:00:00+02:00") == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_date("2026-11-01") == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_date(None) is None
    with pytest.raises(UsageError):
        parse_date("yesterday")
