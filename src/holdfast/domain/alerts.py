"""Alerts: what raises one, what ends it by itself, and how urgent it is. Pure rules.

An alert is about one thing (an item, a machine, a policy, a vault) under one rule. While its cause
lasts there is one alert, however often the cause is met again; when the cause ends the alert is
resolved by itself. A person moves its state (New, Acknowledged, Closed) beside that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from holdfast.domain.retention import RetentionRule
from holdfast.errors import UsageError

Category = Literal["Security", "Jobs", "Health"]
Verb = Literal["happened", "lasts", "over"]
Step = Literal["raise", "repeat", "replace", "resolve", "keep"]
NEW, ACKNOWLEDGED, CLOSED = "New", "Acknowledged", "Closed"
STATES = (NEW, ACKNOWLEDGED, CLOSED)
FIRED, RESOLVED = "Fired", "Resolved"
SETTLING = timedelta(minutes=15)  # a server just started has not heard its agents yet


@dataclass(frozen=True, slots=True)
class Rule:
    """``severity``: 0 (critical) to 4 (verbose), shown as Sev0 to Sev4. Alerts of category Jobs can
    be switched off for a vault, those of Security cannot."""

    name: str
    title: str
    severity: int
    category: Category


RULES = {
    rule.name: rule
    for rule in (
        Rule("BackupFailure", "Backup failed", 1, "Jobs"),
        Rule("BackupWarnings", "Backup completed with warnings", 2, "Jobs"),
        Rule("RestoreFailure", "Restore failed", 1, "Jobs"),
        Rule("UpkeepFailure", "Upkeep of the vault failed", 2, "Jobs"),
        Rule("VaultDamaged", "Vault is damaged", 0, "Health"),
        Rule("RecoveryPointsLost", "Recovery points are missing from the vault", 0, "Health"),
        Rule("StoreUnsound", "The vault's store failed its test", 1, "Health"),
        Rule("CopiesMissing", "A disk of the vault's copies is missing", 1, "Health"),
        Rule("RpoMissed", "No recovery point in time", 1, "Health"),
        Rule("RecoveryPointLimit", "Item has as many recovery points as it may", 2, "Health"),
        Rule("AgentLost", "Agent is silent", 1, "Health"),
        Rule("DeleteBackupData", "Backup data is deleted", 0, "Security"),
        Rule("ProtectionStopped", "Protection was stopped", 1, "Security"),
        Rule("ShorterPolicyRetention", "Policy was changed to shorter retention", 0, "Security"),
        Rule("ShorterRetention", "Item was given shorter retention", 0, "Security"),
        Rule("SoftDeleteDisabled", "Soft delete was switched off", 0, "Security"),
        Rule("UpcomingPurge", "Deleted data will be purged", 0, "Security"),
        Rule("PurgeComplete", "Deleted data was purged", 0, "Security"),
    )
}

# what happened once and nothing ends by itself; forgotten in time also when nobody closed it
EVENTS = ("PurgeComplete", "DeleteBackupData", "ShorterPolicyRetention", "ShorterRetention")


@dataclass(frozen=True, slots=True)
class Cause:
    """``about``: the id of what it is about. ``verb``: it happened (an event), it lasts (a state
    seen again), or it is over."""

    rule: str
    about: str
    verb: Verb


def step(state: str | None, verb: Verb) -> Step:
    """What becomes of the one alert whose cause stands; ``state`` is None when there is none.

    An event met again under an alert that a person closed is news: a new alert takes its place. A
    state that goes on is not: closing it means "I know"."""
    if state is None:
        return "keep" if verb == "over" else "raise"
    if verb == "over":
        return "resolve"
    if verb == "lasts":
        return "keep"
    return "replace" if state == CLOSED else "repeat"


@dataclass(frozen=True, slots=True)
class EndedJob:
    """``subject``: the id of the item, or of the vault when the job is about no item."""

    kind: str
    status: str
    error_code: str
    subject: str


def causes_of_job(job: EndedJob) -> Iterator[Cause]:
    """What a job's end says. A cancelled job says nothing."""
    if job.status == "Cancelled":
        return
    failed = job.status == "Failed"
    if job.kind == "backup":
        yield Cause("BackupFailure", job.subject, _either(failed))
        if not failed:
            warned = job.status == "CompletedWithWarnings"
            yield Cause("BackupWarnings", job.subject, _either(warned))
    elif job.kind == "restore":
        yield Cause("RestoreFailure", job.subject, _either(failed))
    elif job.kind == "browse":
        return  # who asked is told
    elif job.error_code == "VaultDamaged":
        yield Cause("VaultDamaged", job.subject, "happened")
        yield Cause("UpkeepFailure", f"{job.subject}/{job.kind}", "over")
    else:
        yield Cause("UpkeepFailure", f"{job.subject}/{job.kind}", _either(failed))
        if job.kind == "verify" and not failed:
            yield Cause("VaultDamaged", job.subject, "over")


def _either(met: bool) -> Verb:
    return "happened" if met else "over"


def agent_is_lost(
    last_seen: datetime, listening_since: datetime, now: datetime, after: timedelta
) -> bool:
    """Whether an agent has been silent too long, told only by a server that has listened a while
    itself."""
    return now - last_seen >= after and now - listening_since >= SETTLING


def wanted(rule: Rule, job_alerts: str) -> bool:
    """Whether a vault's ``alertsForAllJobFailures`` lets the rule raise alerts."""
    return rule.category != "Jobs" or job_alerts.lower() != "disabled"


def is_sent(severity: int, most: int) -> bool:
    """Whether an alert is urgent enough to be sent to somebody."""
    return severity <= most


def severity_name(severity: int) -> str:
    return f"Sev{severity}"


def check_state(given: str) -> str:
    """One of ``STATES``, by any case. UsageError (InvalidAlertState)."""
    for state in STATES:
        if state.lower() == given.lower():
            return state
    raise UsageError(
        f"{given[:50]!r} is no state of an alert",
        code="InvalidAlertState",
        hint=f"give one of {', '.join(STATES)}",
    )


def back_off(attempts: int) -> timedelta:
    """The pause after the ``attempts``-th failure to send: 5 s, doubled up to five minutes."""
    return timedelta(seconds=min(300, 5 * 2 ** min(attempts - 1, 10)))


def shortened(old: Iterable[RetentionRule], new: Iterable[RetentionRule]) -> list[str]:
    """What is kept for less time under new rules, in words: "daily 30 to 7 days"."""
    now = {rule.range: rule.days for rule in new}
    return [
        f"{rule.range} {rule.days} to {now[rule.range]} days"
        if rule.range in now
        else f"{rule.range} {rule.days} days to none"
        for rule in old
        if now.get(rule.range, 0) < rule.days
    ]
