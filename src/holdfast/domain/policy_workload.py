"""Database policies (AzureWorkload): a set of sub-policies that must fit each other.

The values are checked as Azure Backup checks them; nothing here runs a backup.
"""

from __future__ import annotations

from typing import Any

from holdfast.domain.policy_reading import Properties, integer, listed, one_of, part, refuse
from holdfast.domain.policy_retention import VAULT_LIMITS, read_rules, span
from holdfast.domain.policy_schedule import read_schedule
from holdfast.domain.retention import RetentionRule
from holdfast.domain.schedule import Schedule

DELTAS = ("Differential", "Incremental")
KINDS = ("Full", *DELTAS, "Log", "CopyOnlyFull", "SnapshotFull", "SnapshotCopyOnlyFull")
LOG_MINUTES, LOG_DAYS, DELTA_DAYS = (15, 1440), (7, 35), (7, 180)


def check_workload(properties: Properties) -> None:
    """UsageError when the sub-policies are out of range or contradict each other."""
    if not isinstance(properties.get("workLoadType"), str) or not properties["workLoadType"]:
        raise refuse("workLoadType is missing", "give for example SQLDataBase")
    parts: dict[str, Properties] = {}
    for given in listed(properties.get("subProtectionPolicy"), "subProtectionPolicy"):
        if not isinstance(given, dict):
            raise refuse("subProtectionPolicy has an entry that is no object")
        name = one_of(given.get("policyType"), "policyType", KINDS)
        if name in parts:
            raise refuse(f"subProtectionPolicy has two {name} policies", "give one of each type")
        parts[name] = given
    full = _full(parts["Full"]) if "Full" in parts else None
    _check_deltas(parts, full)
    if "Log" in parts:
        _check_log(parts["Log"])


Full = tuple[Schedule, tuple[RetentionRule, ...]]


def _full(given: Properties) -> Full:
    schedule = read_schedule(part(given, "schedulePolicy"), "AzureWorkload")
    if schedule.frequency == "Hourly":
        raise refuse("a full backup runs daily or weekly")
    return schedule, read_rules(part(given, "retentionPolicy"), schedule, VAULT_LIMITS)


def _check_deltas(parts: dict[str, Properties], full: Full | None) -> None:
    found = [name for name in DELTAS if name in parts]
    if len(found) == 2:
        raise refuse(
            "differential and incremental backups exclude each other", "remove one of them"
        )
    for name in found:
        if full is None or full[0].frequency != "Weekly":
            raise refuse(
                f"{name.lower()} backups need a weekly full backup",
                f"make the full backup weekly or remove {name}",
            )
        _check_delta(name, parts[name], full)


def _check_delta(name: str, given: Properties, full: Full) -> None:
    schedule = read_schedule(part(given, "schedulePolicy"), "AzureWorkload")
    if schedule.frequency != "Weekly" or schedule.weekdays & full[0].weekdays:
        raise refuse(
            f"{name.lower()} backups run on other days than the full backup",
            "give scheduleRunDays without the full backup's days",
        )
    days = _simple(given, DELTA_DAYS, f"{name.lower()} retention")
    longest = max(rule.days for rule in full[1])
    if days > longest:
        raise refuse(
            f"{name.lower()} retention of {days} days is longer than the full backup's",
            f"give at most {longest} days",
        )


def _check_log(given: Properties) -> None:
    schedule = part(given, "schedulePolicy")
    one_of(schedule.get("schedulePolicyType"), "schedulePolicyType", ("LogSchedulePolicy",))
    integer(schedule.get("scheduleFrequencyInMins"), "scheduleFrequencyInMins", *LOG_MINUTES)
    _simple(given, LOG_DAYS, "log retention")


def _simple(given: Properties, limits: tuple[int, int], what: str) -> int:
    """Days of a SimpleRetentionPolicy."""
    retention = part(given, "retentionPolicy")
    kind: Any = retention.get("retentionPolicyType")
    one_of(kind, "retentionPolicyType", (None, "SimpleRetentionPolicy"))
    return span(part(retention, "retentionDuration"), "Days", *limits, what)
