"""A job's sub-tasks and property bag, in Azure's words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from holdfast.arm.http import iso_duration, stamp
from holdfast.arm.machine_bag import machine_bag
from holdfast.catalog.jobs import JobEvent, JobRow
from holdfast.domain.lifecycle import SUCCEEDED
from holdfast.domain.virtual_machines import MANAGEMENT
from holdfast.ports.vm_tasks import SNAPSHOT_PHASE, UPLOAD_PHASE

Body = dict[str, Any]
TASKS = {
    "backup": "Transfer data to vault",
    "restore": "Transfer data from vault",
    "browse": "List files",
    "expire": "Drop recovery points",
    "collect": "Free space",
    "verify": "Read back",
    "scrub": "Check objects",
    "repair": "Mend objects",
    "import": "Read the vault",
}
WORK_ENDS = ("agent-done", "published", "expired", "collected", "verified", "scrubbed", "repaired")
SNAPSHOT_ENDS = ("snapshot-taken", "committed", "published")  # what is in the vault was taken
MEGABYTE = 1_000_000
NOTHING = timedelta()


def tasks_of(row: JobRow, history: Sequence[JobEvent], now: datetime) -> list[Body]:
    """The pieces of work a job is, from the moment it was taken up: one, or of a virtual machine's
    backup the snapshot and the transfer."""
    begun = [event.at for event in history if event.event == "started"]
    done = [event.at for event in history if event.event in WORK_ENDS]
    start = begun[0] if begun else row.started_at
    end = (done[-1] if done else row.ended_at) if row.ended_at else None
    if row.management_type == MANAGEMENT and row.kind == "backup":
        return _snapshot_and_transfer(row, history, start, end, now)
    return [_task(TASKS.get(row.kind, row.operation), row.status, start, end, now)]


def _snapshot_and_transfer(
    row: JobRow,
    history: Sequence[JobEvent],
    start: datetime,
    end: datetime | None,
    now: datetime,
) -> list[Body]:
    taken = [event.at for event in history if event.event in SNAPSHOT_ENDS]
    if not taken:
        later = {"taskId": UPLOAD_PHASE, "status": "NotStarted", "duration": iso_duration(NOTHING)}
        first = _task(SNAPSHOT_PHASE, row.status, start, end, now)
        return [{**first, "progressPercentage": 0.0}, {**later, "progressPercentage": 0.0}]
    snapshot = _task(SNAPSHOT_PHASE, "Completed", start, taken[0], now)
    transfer = _task(UPLOAD_PHASE, row.status, taken[0], end, now)
    return [
        {**snapshot, "progressPercentage": 100.0},
        {**transfer, "progressPercentage": percent_done(row)},
    ]


def percent_done(row: JobRow) -> float:
    """How much of what is to be read was read; 100 when the job ended well."""
    if row.status in SUCCEEDED:
        return 100.0
    done, total = row.progress.get("doneBytes"), row.progress.get("totalBytes")
    if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
        return 0.0
    return round(min(done / total, 1.0) * 100, 1)


def progress_of(row: JobRow) -> Body:
    """What Azure says of a virtual machine's job beside its tasks; nothing of other jobs."""
    if row.management_type != MANAGEMENT:
        return {}
    found: Body = {"progressPercentage": percent_done(row)}
    rate, total = row.progress.get("bytesPerSecond"), row.progress.get("totalBytes")
    if row.active and rate and total:
        left = max(0, total - row.progress.get("doneBytes", 0)) / rate
        found["estimatedRemainingDuration"] = iso_duration(timedelta(seconds=left))
    return found


def _task(name: str, status: str, start: datetime, end: datetime | None, now: datetime) -> Body:
    return {
        "taskId": name,
        "status": status,
        "startTime": stamp(start),
        "endTime": stamp(end),
        "duration": iso_duration((end or now) - start),
    }


def bag_of(row: JobRow) -> dict[str, str]:
    """Azure's names for figures it has too, then ours."""
    found: dict[str, Any] = machine_bag(row) if row.management_type == MANAGEMENT else {}
    result, progress = row.result, row.progress
    if row.kind == "backup":
        retain = result.get("retainUntil") or row.parameters.get("retainUntil")
        found |= {"Recovery Point Expiry Time in UTC": retain} if retain else {}
        found |= {"Backup Size": _megabytes(result.get("logicalBytes"))}
        found |= {"Data Transferred (in MB)": _megabytes(result.get("transferredBytes"), unit="")}
    if row.kind == "restore":
        found |= {"Data Transferred (in MB)": _megabytes(progress.get("doneBytes"), unit="")}
        if row.management_type != MANAGEMENT:
            found |= {"Number Of Restored Files": result.get("filesRestored")}
            found |= {"Target": row.parameters.get("target") or "the original place"}
    ours = {key: value for key, value in result.items() if key != "retainUntil"}
    found |= {key: value for key, value in ours.items() if not isinstance(value, dict | list)}
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


def _megabytes(count: Any, unit: str = " MB") -> str:
    return f"{count / MEGABYTE:.2f}{unit}" if isinstance(count, int | float) else ""
