"""Jobs of a vault, and the operations that lead to them."""

from __future__ import annotations

from litestar import Response, get, post

from holdfast.arm import wire
from holdfast.arm.filters import parse_date, parse_filter
from holdfast.arm.http import (
    PAGE_ROWS,
    RETRY_AFTER,
    ArmRequest,
    Body,
    accepted,
    listed,
    stamp,
    threaded,
)
from holdfast.arm.items import CONTAINER, ITEM
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog import jobs, operations
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.operations import OperationRow
from holdfast.errors import NotFoundError

KIND = f"{RS}/backupJobs"
JOB = VAULT + "/backupJobs/{job:str}"
FABRIC = VAULT + "/backupFabrics/{fabric:str}"
READ = {"action": f"{KIND}/read"}
ANY_READ = {"action": f"{RS}/read"}
_OPERATION_STATE = {
    "Completed": "Succeeded",
    "CompletedWithWarnings": "Succeeded",
    "Failed": "Failed",
    "Cancelled": "Canceled",
}


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
@threaded
def get_job(request: ArmRequest, sub: str, group: str, vault: str, job: str) -> Body:
    found = vault_call(request, sub, group, vault)
    row = find_job(found, job)
    with found.call.platform.catalog.read() as connection:
        history = jobs.history_of(connection, row.id)
        findings = jobs.findings_of(connection, row.id)
    return wire.job_body(row, found.id, found.call.platform.now(), history, findings)


@post(JOB + "/cancel", opt={"action": f"{KIND}/cancel/action"}, status_code=202)
@threaded
def cancel_job(request: ArmRequest, sub: str, group: str, vault: str, job: str) -> Response[None]:
    found = vault_call(request, sub, group, vault)
    row = find_job(found, job)
    found.call.platform.jobs.cancel(row.id, found.call.principal.name)
    return accepted(found.call, f"{found.id}/backupJobs/{row.id}", found.id, "CancelJob", None)


# operations: one id answers under every address a client may build


def _operation(found: VaultCall, operation: str) -> tuple[OperationRow, str, Body]:
    """(row, state, error)."""
    with found.call.platform.catalog.read() as connection:
        row = operations.get_operation(connection, operation.lower())
        job = jobs.get_job(connection, row.job_id) if row and row.job_id else None
    if row is None or row.scope != found.id.lower():
        raise NotFoundError(
            f"there is no operation {operation}",
            code="OperationNotFound",
            hint="operations are forgotten after a while; look at the vault's jobs",
        )
    if job is None or row.state != "InProgress":
        return row, row.state, row.error
    if row.kind in ("Backup", "Restore"):
        return row, "Succeeded", {}
    error = {"code": job.error_code, "message": job.error_message} if job.error_code else {}
    return row, _OPERATION_STATE.get(job.status, "InProgress"), error


def _status(found: VaultCall, operation: str) -> Response[Body]:
    row, state, error = _operation(found, operation)
    ended = None if state == "InProgress" else stamp(row.ended_at or found.call.platform.now())
    body: Body = {
        "id": operation,
        "name": operation,
        "status": state,
        "startTime": stamp(row.created_at),
        "endTime": ended or "0001-01-01T00:00:00",
        "properties": {"objectType": "OperationStatusJobExtendedInfo", "jobId": row.job_id}
        if row.job_id
        else None,
    }
    if error:
        body["error"] = error
    return Response(body, headers={"Retry-After": RETRY_AFTER})


@get(VAULT + "/backupOperations/{operation:str}", opt=ANY_READ)
@threaded
def vault_operation(
    request: ArmRequest, sub: str, group: str, vault: str, operation: str
) -> Response[Body]:
    return _status(vault_call(request, sub, group, vault), operation)


@get(
    [VAULT + "/operationStatus/{operation:str}", VAULT + "/operationsStatus/{operation:str}"],
    opt={"action": None},
)
@threaded
def vault_status(
    request: ArmRequest, sub: str, group: str, vault: str, operation: str
) -> Response[Body]:
    return _status(vault_call(request, sub, group, vault), operation)


@get(
    [
        ITEM + "/operationsStatus/{operation:str}",
        CONTAINER + "/operationsStatus/{operation:str}",
        FABRIC + "/operationsStatus/{operation:str}",
    ],
    opt=ANY_READ,
)
@threaded
def inner_status(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    operation: str,
    fabric: str = "",
    container: str = "",
    item: str = "",
) -> Response[Body]:
    return _status(vault_call(request, sub, group, vault), operation)


@get(
    [
        VAULT + "/operationResults/{operation:str}",
        VAULT + "/backupOperationResults/{operation:str}",
        ITEM + "/operationResults/{operation:str}",
        CONTAINER + "/operationResults/{operation:str}",
        FABRIC + "/operationResults/{operation:str}",
        JOB + "/operationResults/{operation:str}",
        JOB + "/operationsStatus/{operation:str}",
    ],
    opt=ANY_READ,
)
@threaded
def results(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    operation: str,
    fabric: str = "",
    container: str = "",
    item: str = "",
    job: str = "",
) -> Response[None]:
    """202 while it runs, then 204."""
    _, state, _ = _operation(vault_call(request, sub, group, vault), operation)
    running = state == "InProgress"
    headers = {"Retry-After": RETRY_AFTER} if running else {}
    return Response(content=None, status_code=202 if running else 204, headers=headers)


ROUTES = [
    list_jobs,
    get_job,
    cancel_job,
    vault_operation,
    vault_status,
    inner_status,
    results,
]
