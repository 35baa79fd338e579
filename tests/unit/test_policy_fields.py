"""Every field of a policy, one after the other, made wrong: nothing of it is stored. What decides
about backups has tests of its own; here it is everything a client may send."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.arm.policy_check import check_policy
from holdfast.domain.default_policies import default_policies
from holdfast.domain.policy import parse_policy
from holdfast.domain.policy_reading import check_kinds_named
from holdfast.errors import UsageError

AT = ["2026-01-01T08:00:00Z"]
WRONG: tuple[Any, ...] = (7.5, "nonsense", {}, [], True, {"x": 1}, -1)
FREE = ("azureBackupRGNamePrefix", "azureBackupRGNameSuffix")  # any text


def kept(count: int, unit: str, **more: Any) -> dict[str, Any]:
    duration = {"count": count, "durationType": unit}
    return {"retentionTimes": AT, "retentionDuration": duration, **more}


def every_range() -> dict[str, Any]:
    first = {"daysOfTheWeek": ["Sunday"], "weeksOfTheMonth": ["First"]}
    dates = {"daysOfTheMonth": [{"date": 1, "isLast": False}]}
    relative = {"retentionScheduleFormatType": "Weekly", "retentionScheduleWeekly": first}
    absolute = {"retentionScheduleFormatType": "Daily", "retentionScheduleDaily": dates}
    return {
        "weeklySchedule": kept(12, "Weeks", daysOfTheWeek=["Sunday"]),
        "monthlySchedule": kept(60, "Months", **relative),
        "yearlySchedule": kept(10, "Years", monthsOfYear=["January"], **absolute),
    }


def full_policies() -> dict[str, dict[str, Any]]:
    """Policies with every field there is."""
    found = copy.deepcopy(default_policies())
    enhanced, shares = found["EnhancedPolicy"], copy.deepcopy(found["EnhancedPolicy"])
    tier = {"tieringMode": "DoNotTier", "duration": 0, "durationType": "Invalid"}
    enhanced["retentionPolicy"] |= every_range()
    enhanced |= {
        "instantRPDetails": dict.fromkeys(FREE, "a"),
        "snapshotConsistencyType": "OnlyCrashConsistent",
        "tieringPolicy": {"ArchivedRP": tier},
    }
    databases = found["HourlyLogBackup"]
    databases |= {"makePolicyConsistent": True}
    databases["subProtectionPolicy"].append(
        {
            "policyType": "SnapshotCopyOnlyFull",
            "schedulePolicy": copy.deepcopy(found["DefaultPolicy"]["schedulePolicy"]),
            "retentionPolicy": copy.deepcopy(found["DefaultPolicy"]["retentionPolicy"]),
            "snapshotBackupAdditionalDetails": {"instantRpRetentionRangeInDays": 2},
        }
    )
    shares["schedulePolicy"]["schedulePolicyType"] = "SimpleSchedulePolicy"
    for name in ("policyType", "instantRPDetails", "instantRpRetentionRangeInDays"):
        del shares[name]
    found["shares"] = {
        **shares,
        "backupManagementType": "AzureStorage",
        "workLoadType": "AzureFileShare",
    }
    return found


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, held in inner:
        yield (*way, key)
        if isinstance(held, dict | list):
            yield from places(held, (*way, key))


def take(policy: dict[str, Any]) -> None:
    """As it is taken from a client that means to keep it."""
    check_policy(policy)
    check_kinds_named(parse_policy(policy).properties)


@pytest.mark.parametrize("name", full_policies())
def test_a_field_of_the_wrong_kind_or_word_is_refused(name: str) -> None:
    policy = full_policies()[name]
    take(policy)
    tried = 0
    for way in places(policy):
        changed = copy.deepcopy(policy)
        holder: Any = changed
        for step in way[:-1]:
            holder = holder[step]
        right = holder[way[-1]]
        words = [right.swapcase()] if isinstance(right, str) and right not in AT else []
        for wrong in (*WRONG, *words):
            same_kind = type(wrong) is type(right) and not isinstance(right, str)
            free = way[-1] in (*FREE, "timeZone", "tieringMode") and isinstance(wrong, str)
            if same_kind or free:
                continue
            holder[way[-1]] = wrong
            tried += 1
            with pytest.raises(UsageError) as refused:
                take(changed)
            assert refused.value.hint, (way, wrong)
    assert tried > 100


@pytest.mark.parametrize(("name", "kind"), [("DefaultPolicy", "V2"), ("EnhancedPolicy", "V1")])
def test_a_policy_is_of_the_type_of_its_schedule(name: str, kind: str) -> None:
    """The type alone decides whether a machine may go back to a standard policy."""
    with pytest.raises(UsageError, match="policyType does not fit") as refused:
        take({**default_policies()[name], "policyType": kind})
    assert refused.value.code == "UserErrorInvalidPolicyInput"
