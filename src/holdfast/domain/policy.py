"""Backup policies: from ARM properties to values and back, refused as a whole when out of range.

Ranges and rules are Azure Backup's: half-hour times, schedule and retention
times equal, a daily schedule needs daily retention of 7 to 9999 days, and so on. Nulls and unknown
keys are accepted, as are ``instantRpDetails`` and times ending in Z, .000Z or +00:00.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from holdfast.domain.consistency import KEY as CONSISTENCY
from holdfast.domain.consistency import LEAST, read_minimum
from holdfast.domain.policy_reading import (
    Properties,
    integer,
    one_of,
    optional_part,
    part,
    refuse,
    tidy,
)
from holdfast.domain.policy_retention import LIMITS, VAULT_LIMITS, read_rules
from holdfast.domain.policy_schedule import ENHANCED, read_schedule
from holdfast.domain.policy_workload import SubPolicy, read_workload
from holdfast.domain.restore_tests import KEY as RESTORE_TESTS
from holdfast.domain.restore_tests import read_restore_tests
from holdfast.domain.retention import RANGES, RetentionRule, tags_for
from holdfast.domain.schedule import Schedule, slot_day, tagging_slots
from holdfast.domain.timezones import find_zone
from holdfast.errors import UsageError

KINDS = ("AzureIaasVM", "MAB", "AzureStorage", "AzureWorkload")
FILES_TYPES = ("AzureIaasVM", "MAB")
NOT_STORED = ("protectedItemsCount", "resourceGuardOperationRequests", "holdfast")
OURS = (RESTORE_TESTS, CONSISTENCY)  # Azure's policies have no such thing, nor its clients
SHARE_POINTS, SHARE_SNAPSHOT_DAYS = 200, 30
INSTANT_DAYS = {4: 17, 6: 22}  # by interval of an hourly schedule; otherwise 30
INSTANT_WEEKLY = (5, 20)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as rules need it. ``kind``: backupManagementType; ``properties``: canonical ARM.
    Database policies have ``subs`` instead of a ``schedule`` and ``rules`` of their own."""

    kind: str
    zone_name: str
    schedule: Schedule | None
    rules: tuple[RetentionRule, ...]
    properties: dict[str, Any]
    subs: tuple[SubPolicy, ...] = ()

    @property
    def zone(self) -> ZoneInfo:
        return find_zone(self.zone_name)


def parse_policy(properties: Properties) -> Policy:
    """The policy of an ARM ``properties`` object. UsageError (UserErrorInvalidPolicyInput, ...)."""
    if not isinstance(properties, Mapping):
        raise refuse("the policy is no object", "give the policy's properties as a JSON object")
    given: dict[str, Any] = tidy(properties)
    kind = one_of(given.get("backupManagementType"), "backupManagementType", KINDS)
    if kind == "AzureWorkload":
        return _database_policy(given)
    zone_name = _zone_name(given)
    schedule = read_schedule(part(given, "schedulePolicy"), kind)
    rules = _share_rules(given, schedule) if kind == "AzureStorage" else _rules(given, schedule)
    if kind == "AzureIaasVM":
        _check_instant_days(given, schedule, rules)
        read_restore_tests(given)
    else:
        _refuse_of_machines(given)
    return Policy(kind, zone_name, schedule, rules, _canonical(given, kind, zone_name, schedule))


def _refuse_of_machines(given: Properties) -> None:
    for key in OURS:
        if given.get(key) is not None:
            raise refuse(f"{key} is for virtual machines", "leave it out of this policy")


def check_tiering(properties: Mapping[str, Any]) -> None:
    """UsageError (UserErrorNotSupported) when a policy asks to move recovery points to another
    tier. Only what is sent is checked: policies stored with such a wish before go on working."""
    subs = properties.get("subProtectionPolicy")
    for holder in (properties, *(subs if isinstance(subs, list) else ())):
        tiers = holder.get("tieringPolicy") if isinstance(holder, Mapping) else None
        if tiers is None:
            continue
        for tier in tiers.values() if isinstance(tiers, Mapping) else [tiers]:
            mode = tier.get("tieringMode") if isinstance(tier, Mapping) else tier
            if mode is not None and str(mode).lower() != "donottier":
                raise UsageError(
                    f"tieringPolicy with {str(mode)[:50]!r} is not supported by this release:"
                    " there is no archive tier",
                    code="UserErrorNotSupported",
                    hint="leave tieringPolicy out, or give the tieringMode DoNotTier",
                )


def to_properties(policy: Policy) -> dict[str, Any]:
    """The canonical ARM ``properties``; parsing them gives an equal policy."""
    found: dict[str, Any] = tidy(policy.properties)
    return found


def _zone_name(holder: Properties) -> str:
    name = holder.get("timeZone", "")
    name = "UTC" if name == "" else name
    find_zone(name)
    return str(name)


def _rules(given: Properties, schedule: Schedule) -> tuple[RetentionRule, ...]:
    limits = LIMITS.get(given["backupManagementType"], VAULT_LIMITS)
    return read_rules(part(given, "retentionPolicy"), schedule, limits)


def _share_rules(given: Properties, schedule: Schedule) -> tuple[RetentionRule, ...]:
    """A share's points live in its snapshots, or in the vault with few days of snapshots."""
    vaulted = optional_part(given, "vaultRetentionPolicy")
    if vaulted is not None:
        days = vaulted.get("snapshotRetentionInDays")
        integer(days, "snapshotRetentionInDays", 1, SHARE_SNAPSHOT_DAYS)
        return read_rules(part(vaulted, "vaultRetention"), schedule, VAULT_LIMITS)
    rules = _rules(given, schedule)
    if schedule.frequency == "Hourly":
        slots, daily = len(schedule.times), rules[0].days
        if slots * (daily + 1) > SHARE_POINTS:
            raise refuse(
                f"{slots} snapshots a day for {daily} days are more than {SHARE_POINTS}",
                f"give daily retention of at most {SHARE_POINTS // slots - 1} days",
            )
    return rules


def _check_instant_days(
    given: Properties, schedule: Schedule, rules: tuple[RetentionRule, ...]
) -> None:
    """Snapshot days: 1 to 5 (exactly 5 weekly); enhanced up to 30, fewer with many a day, and 5 to
    20 weekly."""
    days = given.get("instantRpRetentionRangeInDays")
    if days is None:
        return
    low, high = 1, 5
    enhanced = given["schedulePolicy"].get("schedulePolicyType") == ENHANCED
    if schedule.frequency == "Weekly":
        low, high = INSTANT_WEEKLY if enhanced else (5, 5)
    elif enhanced:
        hourly = given["schedulePolicy"].get("hourlySchedule") or {}
        high = INSTANT_DAYS.get(hourly.get("interval", 24), 30)
    high = min(high, max(rule.days for rule in rules))
    if not isinstance(days, int) or isinstance(days, bool) or not low <= days <= high:
        raise refuse(
            f"instantRpRetentionRangeInDays of {days!r} is out of range",
            f"{low} to {high} days with this schedule and retention",
            code="InstantRPRetentionDays",
        )


def _canonical(
    given: dict[str, Any], kind: str, zone_name: str, schedule: Schedule
) -> dict[str, Any]:
    """What is stored and returned: Azure's key casing, retention times filled in."""
    found = {key: value for key, value in given.items() if key not in NOT_STORED}
    if "instantRpDetails" in found:
        found["instantRPDetails"] = found.pop("instantRpDetails")
    if kind == "AzureIaasVM":
        enhanced = found["schedulePolicy"].get("schedulePolicyType") == ENHANCED
        found.setdefault("policyType", "V2" if enhanced else "V1")
        if (least := read_minimum(given)) is not None:
            found[CONSISTENCY] = {LEAST: least}
    if kind in FILES_TYPES:
        _fill_times(found, schedule)
    return {**found, "timeZone": zone_name}


def _fill_times(found: dict[str, Any], schedule: Schedule) -> None:
    times = [f"2026-01-01T{one:%H:%M}:00Z" for one in schedule.times]
    if schedule.frequency == "Hourly":
        times = [found["schedulePolicy"]["hourlySchedule"]["scheduleWindowStartTime"]]
    for name in RANGES:
        held = found["retentionPolicy"].get(f"{name}Schedule")
        if held is not None:
            held.setdefault("retentionTimes", times)


def _database_policy(given: dict[str, Any]) -> Policy:
    _refuse_of_machines(given)
    settings = optional_part(given, "settings") or {}
    zone_name = _zone_name(settings)
    subs = read_workload(given)
    found = {key: value for key, value in given.items() if key not in NOT_STORED}
    return Policy("AzureWorkload", zone_name, None, (), found, subs)


def slot_tags(policy: Policy, slot: datetime, pending: Iterable[str] = ()) -> frozenset[str]:
    """Retention ranges of a scheduled point of ``slot``, with those ``pending`` from backups that
    did not happen. Of an hourly schedule only a day's last slot has more than daily."""
    day = slot_day(slot, policy.zone, policy.schedule)
    found = tags_for(policy.rules, day, pending)
    if policy.schedule is None or policy.schedule.frequency != "Hourly":
        return found
    if slot in tagging_slots(policy.schedule, day, policy.zone):
        return found
    return found & {"daily", *pending}


def check_for_files(policy: Policy) -> Policy:
    """A files item takes any policy of type AzureIaasVM or MAB. UsageError
    (UserErrorPolicyTypeMismatch)."""
    if policy.kind not in FILES_TYPES or policy.schedule is None:
        raise UsageError(
            "this policy cannot protect files",
            code="UserErrorPolicyTypeMismatch",
            hint="choose a policy of type AzureIaasVM or MAB, e.g. DefaultPolicy",
        )
    return policy


def check_for_machines(policy: Policy) -> Policy:
    """A virtual machine takes a policy of type AzureIaasVM. UsageError
    (UserErrorPolicyTypeMismatch)."""
    if policy.kind != "AzureIaasVM" or policy.schedule is None:
        raise UsageError(
            "this policy cannot protect virtual machines",
            code="UserErrorPolicyTypeMismatch",
            hint="choose a policy of type AzureIaasVM, e.g. DefaultPolicy or EnhancedPolicy",
        )
    return policy


def check_moves(before: Mapping[str, Any], after: Mapping[str, Any], machine: str) -> None:
    """A virtual machine goes from a standard policy to an enhanced one and, as in Azure, never
    back. UsageError (UserErrorPolicyTypeMismatch)."""
    if before.get("policyType") == "V2" and after.get("policyType") != "V2":
        raise UsageError(
            f"virtual machine {machine} has an enhanced policy, from which none goes back to a "
            "standard one",
            code="UserErrorPolicyTypeMismatch",
            hint="choose a policy with policyType V2, e.g. EnhancedPolicy; one of its own may run "
            "once a day",
        )
