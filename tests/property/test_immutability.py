"""What an immutable vault lets pass, against what it promises: no point ends sooner than it was to,
whatever policies it sees, and a lock is never left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.immutability import (
    BLOCKED,
    FOREVER,
    STATE_CHANGE,
    STATES,
    changed,
    check_delete_data,
    check_increase,
    check_reduction,
    check_soft_delete,
    check_vault_delete,
    cut_short,
    end_of,
    increases,
    read_state,
    reductions,
    stronger,
)
from holdfast.domain.policy import Policy
from holdfast.domain.policy_workload import SubPolicy
from holdfast.domain.retention import RANGES, PointFacts, RetentionRule
from holdfast.domain.soft_delete import SoftDelete
from holdfast.errors import ConflictError, UsageError

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
POLICIES = st.dictionaries(st.sampled_from(RANGES), st.integers(1, 12), min_size=1).map(
    lambda days: policy(**{str(name): count for name, count in days.items()})
)
POINTS = st.lists(
    st.builds(
        PointFacts,
        st.uuids().map(str),
        st.integers(0, 20).map(lambda days: START + days * DAY),
        st.frozensets(st.sampled_from(RANGES)),
    ),
    min_size=1,
    max_size=8,
)


def policy(**days: int) -> Policy:
    rules = tuple(RetentionRule(name, days[name]) for name in RANGES if name in days)
    return Policy("MAB", "UTC", None, rules, {})


def passes(old: Policy, new: Policy, points: list[PointFacts]) -> bool:
    held = [(point, end_of(point, old.rules)) for point in points]
    try:
        check_reduction(reductions(old, new), cut_short(held, new.rules), "the policy")
    except ConflictError as error:
        assert (error.code, bool(error.hint)) == (BLOCKED, True)
        return False
    return True


@given(st.lists(POLICIES, min_size=2, max_size=8), POINTS)
def test_what_passes_ends_no_point_sooner(history: list[Policy], points: list[PointFacts]) -> None:
    current = history[0]
    first = {point.id: end_of(point, current.rules) for point in points}
    for asked in history[1:]:
        if passes(current, asked, points):
            current = asked
        assert all(end_of(point, current.rules) >= first[point.id] for point in points)


@given(POLICIES, POINTS, st.integers(0, 5))
def test_more_of_every_range_always_passes(
    old: Policy, points: list[PointFacts], more: int
) -> None:
    longer = policy(**{rule.range: rule.days + more for rule in old.rules})
    assert passes(old, longer, points)


@given(POLICIES, POINTS)
def test_without_a_new_range_the_ranges_alone_decide(old: Policy, points: list[PointFacts]) -> None:
    """So that no point needs to be read for it."""
    for rule in old.rules:
        longer = policy(**{one.range: one.days + (one == rule) for one in old.rules})
        held = [(point, end_of(point, old.rules)) for point in points]
        assert not cut_short(held, longer.rules)


def test_a_new_range_that_takes_a_point_over_is_seen() -> None:
    """Tagged weekly by an older policy, the point went by the daily duration."""
    point = PointFacts("p", START, frozenset({"weekly"}))
    old, new = policy(daily=300), policy(daily=300, weekly=7)
    assert reductions(old, new) == []
    assert not passes(old, new, [point])


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        (policy(daily=30), policy(daily=29), ["daily 30 to 29 days"]),
        (policy(daily=30, yearly=366), policy(daily=99), ["yearly 366 days to none"]),
        (policy(daily=30), policy(weekly=70), ["daily 30 days to none"]),
        (policy(daily=30), policy(daily=30, monthly=31), []),
    ],
)
def test_ranges_are_compared_one_by_one(old: Policy, new: Policy, lost: list[str]) -> None:
    assert reductions(old, new) == lost


def test_backup_types_of_a_database_are_compared_too() -> None:
    def made(log: int) -> Policy:
        full = SubPolicy("Full", None, (RetentionRule("daily", 30),))
        logs = SubPolicy("Log", None, (RetentionRule("daily", log),), 60)
        return Policy("AzureWorkload", "UTC", None, (), {}, (full, logs) if log else (full,))

    assert reductions(made(15), made(14)) == ["log daily 15 to 14 days"]
    assert reductions(made(15), made(0)) == ["log daily 15 days to none"]
    assert increases(made(15), made(16)) == ["log daily"]


@pytest.mark.parametrize("suspended", [[], ["docs"]])
@pytest.mark.parametrize(
    ("new", "grows"),
    [
        (policy(daily=30), False),
        (policy(daily=31), True),
        (policy(daily=30, weekly=7), True),
    ],
)
def test_retention_grows_only_while_nothing_is_suspended(
    new: Policy, grows: bool, suspended: list[str]
) -> None:
    more = increases(policy(daily=30), new)
    assert bool(more) is grows
    if not (grows and suspended):
        check_increase(more, suspended, "nightly")
        return
    with pytest.raises(ConflictError, match="docs") as caught:
        check_increase(more, suspended, "nightly")
    assert caught.value.code == BLOCKED


@given(st.lists(st.sampled_from([*STATES, "locked", "UNLOCKED", None, "odd", 5]), max_size=12))
def test_a_lock_is_never_left(asked: list[object]) -> None:
    state, seen = changed("Disabled", None), ["Disabled"]
    for one in asked:
        try:
            state = changed(state, one)
        except ConflictError as error:
            assert error.code == STATE_CHANGE
        except UsageError:
            assert one in ("odd", 5)
        seen.append(state)
    if "Locked" in seen:
        first = seen.index("Locked")
        assert set(seen[first:]) == {"Locked"}
        assert seen[first - 1] == "Unlocked", "nobody locks a vault at one stroke"


def test_states_as_they_are_stored() -> None:
    assert [read_state(text) for text in ("", "Disabled", "locked", "of a later release")] == [
        "Disabled", "Disabled", "Locked", "Unlocked",
    ]  # fmt: skip
    assert stronger("Locked", "Unlocked") == stronger("Unlocked", "Locked") == "Locked"


def test_data_is_deleted_when_all_of_it_has_expired() -> None:
    check_delete_data("docs", [START, START - DAY], START)
    check_delete_data("docs", [], START)
    for ends, until in (([START, START + DAY], "2026-03-02"), ([FOREVER], "for ever")):
        with pytest.raises(ConflictError, match=until):
            check_delete_data("docs", ends, START)


def test_on_demand_points_have_their_own_end() -> None:
    own = PointFacts("p", START, frozenset(), START + 90 * DAY, on_demand=True)
    endless = PointFacts("q", START, frozenset(), None, on_demand=True)
    assert end_of(own, policy(daily=7).rules) == START + 90 * DAY
    assert end_of(endless, policy(daily=7).rules) == FOREVER == end_of(own, None)


def test_soft_delete_is_not_lowered() -> None:
    for new in (SoftDelete("Disabled"), SoftDelete(days=14)):
        with pytest.raises(ConflictError):
            check_soft_delete(SoftDelete(days=30), new)
    for new in (SoftDelete(days=30), SoftDelete(days=31), SoftDelete("AlwaysON", 30)):
        check_soft_delete(SoftDelete(days=30), new)
    check_soft_delete(SoftDelete("Disabled"), SoftDelete())


def test_a_vault_with_points_is_not_deleted() -> None:
    check_vault_delete("v1", 0)
    with pytest.raises(ConflictError, match="3 recovery"):
        check_vault_delete("v1", 3)
