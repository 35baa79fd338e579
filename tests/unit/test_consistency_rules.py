"""Whose minimum of consistency counts, and what a policy may ask for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.consistency import InForce, check_reachable, in_force, own_wish, read_minimum
from holdfast.domain.default_policies import default_policies
from holdfast.domain.policy import parse_policy, to_properties
from holdfast.domain.virtual_machines import LEVELS, ConsistencyWish
from holdfast.errors import UsageError

CRASH, FILES, APPLICATION = LEVELS
LEVEL = st.sampled_from(LEVELS)
ENHANCED = default_policies()["EnhancedPolicy"]


def policy(least: Any = FILES, **more: Any) -> dict[str, Any]:
    return {**ENHANCED, "consistency": {"atLeast": least}, **more}


@given(LEVEL, st.sampled_from(("", *LEVELS)), st.none() | LEVEL)
def test_a_machines_own_minimum_wins_then_its_policys(
    wish: str, own: str, asked: str | None
) -> None:
    if own and LEVELS.index(own) > LEVELS.index(wish):
        return
    properties = {} if asked is None else {"consistency": {"atLeast": asked}}
    found = in_force(ConsistencyWish(wish, own), properties)
    assert found.wish == wish
    if own:
        assert (found.minimum, found.by) == (own, "machine")
    elif asked is not None:
        assert (found.minimum, found.by) == (asked, "policy")
    else:
        assert (found.minimum, found.by) == (CRASH, "default")


def test_a_policy_that_asks_no_guest_asks_for_nothing() -> None:
    lowest = InForce(CRASH, CRASH, "default")
    own = ConsistencyWish(APPLICATION, FILES)
    assert in_force(own, {"snapshotConsistencyType": "OnlyCrashConsistent"}) == lowest


def test_what_an_item_holds() -> None:
    assert own_wish({}) == ConsistencyWish(APPLICATION, "")
    held = {"consistency": {"wish": FILES, "atLeast": None}}
    assert own_wish(held) == ConsistencyWish(FILES, "")


def test_a_minimum_nobody_tries_to_reach_is_refused() -> None:
    check_reachable(ConsistencyWish(FILES), policy(FILES), "nightly")
    check_reachable(ConsistencyWish(CRASH, CRASH), policy(FILES), "nightly")
    with pytest.raises(UsageError) as refused:
        check_reachable(ConsistencyWish(CRASH), policy(FILES), "nightly")
    assert refused.value.code == "InvalidConsistency"
    assert "policy nightly asks for at least FileSystemConsistent" in refused.value.message


@pytest.mark.parametrize("word", ["file-system", "FileSystemConsistent", "filesystemconsistent"])
def test_a_policy_keeps_it_in_azures_words(word: str) -> None:
    kept = to_properties(parse_policy(policy(word)))
    assert kept["consistency"] == {"atLeast": FILES}
    assert to_properties(parse_policy(kept)) == kept
    assert read_minimum(kept) == FILES


@pytest.mark.parametrize(
    "wrong",
    [
        policy("good"),
        policy(None),
        policy(2),
        policy(["crash"]),
        {**ENHANCED, "consistency": "application"},
        {**ENHANCED, "consistency": {}},
        {**ENHANCED, "consistency": {"atleast": "crash"}},
        policy(FILES, snapshotConsistencyType="OnlyCrashConsistent"),
    ],
)
def test_what_no_policy_may_ask_for(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        parse_policy(wrong)
    assert refused.value.code == "UserErrorInvalidPolicyInput"


@pytest.mark.parametrize("key", ["consistency", "restoreTest"])
def test_policies_of_other_things_have_none(key: str) -> None:
    databases = default_policies()["HourlyLogBackup"]
    asked = {"consistency": {"atLeast": FILES}, "restoreTest": {"everyDays": 7}}
    folders = {**default_policies()["DefaultPolicy"], "backupManagementType": "MAB"}
    for other in (folders, databases):
        parse_policy(other)
        with pytest.raises(UsageError) as refused:
            parse_policy({**other, key: asked[key]})
        assert refused.value.code == "UserErrorInvalidPolicyInput"
        assert key in refused.value.message
