"""Jobs of a vault."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from anyio import to_thread
from litestar import Response, get, post

from holdfast.arm import wire
from holdfast.arm.filters import kind_asked, parse_date, parse_filter
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
from holdfast.catalog import jobs, listing
from holdfast.catalog.jobs import JobRow
from holdfast.domain.lifecycle import ENDED
from holdfast.domain.virtual_machines import MANAGEMENT
from holdfast.errors import NotFoundError, UsageError
from holdfast.jobs.ledger import OPERATIONS

KIND = f"{RS}/backupJobs"
JOB = VAULT + "/backupJobs/{job:str}"
READ = needs(f"{KIND}/read")
RUNNING = ("InProgress", "Cancelling")
STATUSES = (*RUNNING, *ENDED)
OPERATION_WORDS = (*OPERATIONS.values(), "DeleteBackupData")
MAX_WAIT_SECONDS, STEPS_A_SECOND = 5, 10


def find_job(found: VaultCall, job_id: str) -> JobRow:
    """NotFoundError (JobNotFound)."""
    wanted = job_id.lower()
    recall = found.call.platform.catalog.recall
    row = recall(("job", wanted), lambda asked: jobs.get_job(asked, wanted))
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
    """Jobs, newest first; ``$filter``: status, operation, startTime, endTime, jobId."""
    found = vault_call(request, sub, group, vault)
    call = found.call
    rows, token = jobs_of(found, call.query("$filter"), call.skip_token)
    return listed(rows, call, token)


def jobs_of(found: VaultCall, text: str, token: str = "") -> tuple[list[Body], str]:
    """A page of the jobs that a filter chooses, and the token of the next one. UsageError
    (InvalidFilter)."""
    wanted, platform = parse_filter(text), found.call.platform
    status = _spelt(wanted.get("status"), STATUSES)
    if status is not None and status not in STATUSES:
        raise UsageError(
            f"{status[:50]!r} is no state of a job",
            code="InvalidFilter",
            hint="give InProgress, Cancelling, Completed, CompletedWithWarnings, Failed, Cancelled",
        )
    try:
        kind = kind_asked(wanted)
    except LookupError:
        return [], ""
    with platform.catalog.read() as connection:
        page = jobs.page_jobs(
            connection,
            found.row.id,
            status=status,
            operation=_spelt(wanted.get("operation"), OPERATION_WORDS),
            since=parse_date(wanted.get("starttime")),
            until=parse_date(wanted.get("endtime")),
            job_id=wanted.get("jobid"),
            management_type=kind[0] if kind else None,
            limit=PAGE_ROWS,
            token=token,
        )
        hosts = listing.machine_names(connection, (row.container_id for row in page.rows))
    now = platform.now()
    return [_with_host(wire.job_body(row, found.id, now), row, hosts) for row in page.rows], (
        page.next_token
    )


def _with_host(body: Body, row: JobRow, hosts: Mapping[str, str]) -> Body:
    """What a job of a machine says of it."""
    if row.management_type == MANAGEMENT:
        body["properties"]["holdfast"]["container"] = hosts.get(row.container_id or "", "")
    elif row.container_id:
        host = hosts.get(row.container_id, row.entity_name if row.item_id is None else "")
        ours = {"mabServerName": host, "mabServerType": "Windows"}
        body["properties"] |= {**ours, "workloadType": "FileFolder"}
    return body


def _spelt(word: str | None, known: Iterable[str]) -> str | None:
    """A word of a filter as it is stored: clients write it in any case."""
    spellings = {one.lower(): one for one in known}
    return None if word is None else spellings.get(word.lower(), word)


@get(JOB, opt=READ)
async def get_job(request: ArmRequest, sub: str, group: str, vault: str, job: str) -> Body:
    """One job with its sub-tasks, progress, findings and history. ``waitSeconds`` (our own) holds
    the answer back until the job has ended, at most so long."""
    steps = min(call_of(request).number("waitSeconds", 0), MAX_WAIT_SECONDS) * STEPS_A_SECOND
    if steps:
        found = await to_thread.run_sync(vault_call, request, sub, group, vault)
        for _ in range(steps):
            if await to_thread.run_sync(_has_ended, found, job):
                break
            await asyncio.sleep(1 / STEPS_A_SECOND)
    return await to_thread.run_sync(_job_body, request, sub, group, vault, job)


def _has_ended(found: VaultCall, job: str) -> bool:
    return find_job(found, job).status not in RUNNING


def _job_body(request: ArmRequest, sub: str, group: str, vault: str, job: str) -> Body:
    found = vault_call(request, sub, group, vault)
    row = find_job(found, job)
    with found.call.platform.catalog.read() as connection:
        history = jobs.history_of(connection, row.id)
        findings = jobs.findings_of(connection, row.id)
        hosts = listing.machine_names(connection, [row.container_id])
    body = wire.job_body(row, found.id, found.call.platform.now(), history, findings)
    return _with_host(body, row, hosts)


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
