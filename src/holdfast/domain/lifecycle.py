"""States of jobs and protected items, and which may follow which."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from holdfast.domain.policy import Policy
from holdfast.domain.schedule import latest_slot
from holdfast.errors import ConflictError

JobStatus = Literal[
    "InProgress", "Cancelling", "Cancelled", "Completed", "CompletedWithWarnings", "Failed"
]
ENDED: frozenset[str] = frozenset({"Cancelled", "Completed", "CompletedWithWarnings", "Failed"})
CANCELLABLE: frozenset[str] = frozenset({"Backup", "Restore", "Verify", "Collect"})
OVERDUE_GRACE = timedelta(hours=24)

_NEXT: dict[str, frozenset[str]] = {
    "InProgress": ENDED | {"Cancelling"},
    "Cancelling": ENDED,
}


def check_job_step(before: str, after: str) -> None:
    """ConflictError when a job may not go from ``before`` to ``after``."""
    if before != after and after not in _NEXT.get(before, frozenset()):
        raise ConflictError(f"a job that is {before} cannot become {after}", code="JobEnded")


def may_cancel(operation: str, status: str) -> bool:
    return operation in CANCELLABLE and status == "InProgress"


def backups_run(protection_state: str) -> bool:
    """Whether scheduled and on-demand backups of an item may start."""
    return protection_state in ("IRPending", "Protected", "ProtectionError")


def is_overdue(
    policy: Policy, state: str, last_success: datetime | None, since: datetime, now: datetime
) -> bool:
    """Whether an item missed its schedule: a slot older than a day's grace has no success after it.
    ``since``: when it was protected."""
    if not backups_run(state) or policy.schedule is None:
        return False
    due = latest_slot(policy.schedule, policy.zone, now - OVERDUE_GRACE)
    return due > since and (last_success is None or last_success < due)
