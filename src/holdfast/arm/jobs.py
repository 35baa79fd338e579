"""Jobs of a vault."""

from __future__ import annotations

import asyncio

from anyio import to_thread
from litestar import Response, get, post

from holdfast.arm import wire
from holdfast.arm.filters import parse_date, parse_filter
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    PAGE_ROWS,
    Answering,
    ArmRequest,
    Body,
    accepted,
    call_of,
    listed,
    threaded,
)
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog import jobs
from holdfast.catalog.jobs import JobRow
from holdfast.errors import NotFoundError

KIND = f"{RS}/backupJobs"
JOB = VAULT + "/backupJobs/{job:str}"
READ = needs(f"{KIND}/read")
RUNNING = ("InProgress", "Cancelling")
MAX_WAIT_SECONDS, STEPS_A_SECOND = 5, 10


def find_job(found: VaultCall, job_id: str) -> JobRow:
    """NotFoundError (JobNotFound)."""
    with found.call.platform.catalog.read() as connection:
        row = jobs.get_job(connection, job_id.lower())
    if row is None or row.vault_id != found.row.id:
        raise NotFoundError(
            f"there is no job {job_id} in vault {found.row.name}",
            code="JobNotFound",
            hint="see which there are: holdfast job list",
        )
    return row


@get(VAULT + "/backupJobs", opt=READ)
@threaded
def list_jobs(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Jobs, newest first; ``$filter``: status, operation, startTime, endTime."""
    found = vault_call(request, sub, group, vault)
    call, wanted = found.call, parse_filter(found.call.query("$filter"))
    if wanted.get("backupmanagementtype", "MAB").upper() != "MAB":
        return {"value": []}
    with call.platform.catalog.read() as connection:
        page = jobs.page_jobs(
            connection,
            found.row.id,
            status=wanted.get("status"),
            operation=wanted.get("operation"),
            since=parse_date(wanted.get("starttime")),
            until=parse_date(wanted.get("endtime")),
            limit=PAGE_ROWS,
            token=call.skip_token,
        )
    now = call.platform.now()
    return listed([wire.job_body(row, found.id, now) for row in page.rows], call, page.next_token)


@get(JOB, opt=READ)
async def get_job(request: ArmRequest, sub: str, group: str, vault: str, job: str) -> Body:
    """One job with its sub-tasks, progress, findings and history. ``waitSeconds`` (our own) holds
    the answer back until the job has ended, at most so long."""
    steps = min(call_of(request).number("waitSeconds", 0), MAX_WAIT_SECONDS) * STEPS_A_SECOND
    for _ in range(steps):
        if await to_thread.run_sync(_has_ended, request, sub, group, vault, job):
            break
        await asyncio.sleep(1 / STEPS_A_SECOND)
    return await to_thread.run_sync(_job_body, request, sub, group, vault, job)


def _has_ended(request: ArmRequest, sub: str, group: str, vault: str, job: str) -> bool:
    found = vault_call(request, sub, group, vault)
    return find_job(found, job).status not in RUNNING


def _job_body(request: ArmRequest, sub: str, group: str, vault: str, job: str) -> Body:
    found = vault_call(request, sub, group, vault)
    row = find_job(found, job)
    with found.call.platform.catalog.read() as connection:
        history = jobs.history_of(connection, row.id)
        findings = jobs.findings_of(connection, row.id)
    return wire.job_body(row, found.id, found.call.platform.now(), history, findings)


@post(JOB + "/cancel", opt={"action": f"{KIND}/cancel/action"}, status_code=202)
@threaded
def cancel_job(request: ArmRequest, sub: str, group: str, vault: str, job: str) -> Response[None]:
    """Ask a job to stop."""
    found = vault_call(request, sub, group, vault)
    row = find_job(found, job)
    found.call.platform.jobs.cancel(row.id, found.call.principal.name)
    answering = Answering(f"{found.id}/backupJobs/{row.id}")
    return accepted(found.call, found.id, "CancelJob", None, answering)


ROUTES = [list_jobs, get_job, cancel_job]
