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
    ``since``: when it was protected. Items whose backups do not run are never overdue."""
    if not backups_run(state) or policy.schedule is None:
        return False
    due = latest_slot(policy.schedule, policy.zone, now - OVERDUE_GRACE)
    return due > since and (last_success is None or last_success < due)
