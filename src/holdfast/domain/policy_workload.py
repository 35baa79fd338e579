"""Database policies (AzureWorkload): a set of sub-policies that must fit each other.

The values are checked as Azure Backup checks them; nothing here runs a backup.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from holdfast.domain.policy_reading import Properties, integer, listed, one_of, part, refuse
from holdfast.domain.policy_retention import VAULT_LIMITS, read_rules, span
from holdfast.domain.policy_schedule import read_schedule
from holdfast.domain.retention import RetentionRule
from holdfast.domain.schedule import Schedule

DELTAS = ("Differential", "Incremental")
KINDS = ("Full", *DELTAS, "Log", "CopyOnlyFull", "SnapshotFull", "SnapshotCopyOnlyFull")
SQL = "sqldatabase"
LOG_MINUTES, LOG_DAYS, DELTA_DAYS = (15, 1440), (7, 35), (7, 180)


@dataclass(frozen=True, slots=True)
class SubPolicy:
    """One backup type of a database policy. ``schedule``: None for logs, which have
    ``log_minutes``. All but full backups are kept by one daily rule."""

    kind: str
    schedule: Schedule | None
    rules: tuple[RetentionRule, ...]
    log_minutes: int = 0


def read_workload(properties: Properties) -> tuple[SubPolicy, ...]:
    """The sub-policies Full, Differential or Incremental, and Log. UsageError when they are out of
    range or contradict each other."""
    workload = properties.get("workLoadType")
    if not isinstance(workload, str) or not workload:
        raise refuse("workLoadType is missing", "give for example SQLDataBase")
    parts: dict[str, Properties] = {}
    for given in listed(properties.get("subProtectionPolicy"), "subProtectionPolicy"):
        if not isinstance(given, dict):
            raise refuse("subProtectionPolicy has an entry that is no object")
        name = one_of(given.get("policyType"), "policyType", KINDS)
        if name in parts:
            raise refuse(f"subProtectionPolicy has two {name} policies", "give one of each type")
        parts[name] = given
    _check_kinds(parts, workload)
    found = [_full(parts["Full"])] if "Full" in parts else []
    found += _deltas(parts, found[0] if found else None)
    if "Log" in parts:
        found.append(_log(parts["Log"]))
    return tuple(found)


def _check_kinds(kinds: Collection[str], workload: str) -> None:
    if "Log" in kinds and "Full" not in kinds:
        raise refuse("a log backup restores nothing without a full one", "add a Full policy")
    if "Incremental" in kinds and workload.lower() == SQL:
        raise refuse(
            "SQL Server has no incremental backups",
            "make it Differential: what changed since the last full backup",
        )


def _full(given: Properties) -> SubPolicy:
    schedule = read_schedule(part(given, "schedulePolicy"), "AzureWorkload")
    if schedule.frequency == "Hourly":
        raise refuse("a full backup runs daily or weekly")
    rules = read_rules(part(given, "retentionPolicy"), schedule, VAULT_LIMITS)
    return SubPolicy("Full", schedule, rules)


def _deltas(parts: dict[str, Properties], full: SubPolicy | None) -> list[SubPolicy]:
    """The differential or the incremental one, if any."""
    found = [name for name in DELTAS if name in parts]
    if len(found) == 2:
        raise refuse(
            "differential and incremental backups exclude each other", "remove one of them"
        )
    return [_delta(name, parts[name], full) for name in found]


def _delta(name: str, given: Properties, full: SubPolicy | None) -> SubPolicy:
    if full is None or full.schedule is None or full.schedule.frequency != "Weekly":
        raise refuse(
            f"{name.lower()} backups need a weekly full backup",
            f"make the full backup weekly or remove {name}",
        )
    schedule = read_schedule(part(given, "schedulePolicy"), "AzureWorkload")
    if schedule.frequency != "Weekly" or schedule.weekdays & full.schedule.weekdays:
        raise refuse(
            f"{name.lower()} backups run on other days than the full backup",
            "give scheduleRunDays without the full backup's days",
        )
    days = _simple(given, DELTA_DAYS, f"{name.lower()} retention")
    longest = max(rule.days for rule in full.rules)
    if days > longest:
        raise refuse(
            f"{name.lower()} retention of {days} days is longer than the full backup's",
            f"give at most {longest} days",
        )
    return SubPolicy(name, schedule, (RetentionRule("daily", days),))


def _log(given: Properties) -> SubPolicy:
    schedule = part(given, "schedulePolicy")
    one_of(schedule.get("schedulePolicyType"), "schedulePolicyType", ("LogSchedulePolicy",))
    every = schedule.get("scheduleFrequencyInMins")
    minutes = integer(every, "scheduleFrequencyInMins", *LOG_MINUTES)
    days = _simple(given, LOG_DAYS, "log retention")
    return SubPolicy("Log", None, (RetentionRule("daily", days),), minutes)


def _simple(given: Properties, limits: tuple[int, int], what: str) -> int:
    """Days of a SimpleRetentionPolicy."""
    retention = part(given, "retentionPolicy")
    kind: Any = retention.get("retentionPolicyType")
    one_of(kind, "retentionPolicyType", (None, "SimpleRetentionPolicy"))
    return span(part(retention, "retentionDuration"), "Days", *limits, what)
