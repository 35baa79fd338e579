"""Which items missed their schedule."""

from __future__ import annotations

from datetime import datetime, timedelta

from holdfast.domain.lifecycle import backups_run
from holdfast.domain.policy import Policy
from holdfast.domain.schedule import latest_slot

OVERDUE_GRACE = timedelta(hours=24)


def is_overdue(
    policy: Policy, state: str, last_success: datetime | None, since: datetime, now: datetime
) -> bool:
    """Whether an item missed its schedule: a slot older than a day's grace has no success after it.
    ``since``: when its present schedule began. Items whose backups do not run are never overdue."""
    return backups_run(state) and misses(owed_slot(policy, now), last_success, since)


def owed_slot(policy: Policy, now: datetime) -> datetime | None:
    """The last slot whose grace is over: the same for all items of a policy. None without a
    schedule."""
    if policy.schedule is None:
        return None
    return latest_slot(policy.schedule, policy.zone, now - OVERDUE_GRACE)


def misses(owed: datetime | None, last_success: datetime | None, since: datetime) -> bool:
    """Whether no success came after the slot that is owed."""
    return owed is not None and owed > since and (last_success is None or last_success < owed)


def counts_from(
    before: Policy | None, state: str, last_success: datetime | None, since: datetime, now: datetime
) -> datetime:
    """When an item's new schedule begins: now, unless it was late under the one ``before``. Then
    the old beginning stays, so that a change of policy does not make up for a missed backup.
    ``state``: its protectionState before the change."""
    late = before is not None and is_overdue(before, state, last_success, since, now)
    return since if late else now
