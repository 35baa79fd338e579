"""Long-running operations: one id answers under every address a client may build from it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from litestar import Response, get

from holdfast.arm.actions import by_address
from holdfast.arm.containers import CONTAINER
from holdfast.arm.http import RETRY_AFTER, ArmRequest, Body, call_of, stamp, threaded
from holdfast.arm.items import ITEM
from holdfast.arm.jobs import JOB
from holdfast.arm.machine_files import LISTING, listing_body
from holdfast.arm.policies import POLICY
from holdfast.arm.vaults import RS, VAULT, vault_call, vault_shown
from holdfast.catalog import jobs, operations
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.operations import OperationRow
from holdfast.errors import NotFoundError

FABRIC = VAULT + "/backupFabrics/{fabric:str}"
READ = by_address()
NEVER = "0001-01-01T00:00:00"
# Azure calls a backup or restore operation over once its job runs; all others follow their job
FOLLOWED_BY_JOB = frozenset({"Backup", "Restore"})
_STATE = {
    "Completed": "Succeeded",
    "CompletedWithWarnings": "Succeeded",
    "Failed": "Failed",
    "Cancelled": "Canceled",
}


def find_operation(
    request: ArmRequest, names: tuple[str, str, str], operation: str
) -> tuple[OperationRow, JobRow | None]:
    """By vault address and id; the vault itself may be gone. NotFoundError (OperationNotFound)."""
    sub, group, vault = names
    scope = f"/subscriptions/{sub}/resourceGroups/{group}/providers/{RS}/{vault}".lower()
    with call_of(request).platform.catalog.read() as connection:
        row = operations.get_operation(connection, operation.lower())
        job = jobs.get_job(connection, row.job_id) if row and row.job_id else None
    if row is None or row.scope != scope:
        raise NotFoundError(
            f"there is no operation {operation[:100]}",
            code="OperationNotFound",
            hint="operations are forgotten after a while; look at the vault's jobs",
        )
    return row, job


def _state(row: OperationRow, job: JobRow | None) -> str:
    if row.state != "InProgress" or job is None:
        return row.state
    return "Succeeded" if row.kind in FOLLOWED_BY_JOB else _STATE.get(job.status, "InProgress")


def _error(row: OperationRow, job: JobRow | None) -> Body:
    if row.error:
        return row.error
    if job is None or job.active or not job.error_code:
        return {}  # what an active job meets is in the job: pollers take an error for the end
    return {"code": job.error_code, "message": job.error_message, "hint": job.error_hint}


def _status(request: ArmRequest, names: tuple[str, str, str], operation: str) -> Response[Body]:
    """Always 200, the state in the body."""
    body, job_id = _told(request, names, operation)
    extended = {"objectType": "OperationStatusJobExtendedInfo", "jobId": job_id}
    body["properties"] = extended if job_id else None
    return Response(body, headers={"Retry-After": RETRY_AFTER})


def _told(
    request: ArmRequest, names: tuple[str, str, str], operation: str
) -> tuple[Body, str | None]:
    """What is said of an operation at every address, and its job."""
    row, job = find_operation(request, names, operation)
    state = _state(row, job)
    ended = row.ended_at or (job.ended_at if job else None) or row.created_at
    body: Body = {
        "id": request.scope["path"],
        "name": row.id,
        "status": state,
        "startTime": stamp(row.created_at),
        "endTime": NEVER if state == "InProgress" else stamp(ended),
    }
    if state in ("Failed", "Canceled"):
        body["error"] = _error(row, job) or {"code": state, "message": "the job was cancelled"}
    return body, row.job_id


@get(
    [
        VAULT + "/backupOperations/{operation:str}",
        VAULT + "/operationsStatus/{operation:str}",
        VAULT + "/backupJobs/operationsStatus/{operation:str}",
    ],
    opt=READ,
)
@threaded
def vault_status(
    request: ArmRequest, sub: str, group: str, vault: str, operation: str
) -> Response[Body]:
    """The state of an operation in a vault."""
    return _status(request, (sub, group, vault), operation)


@get(VAULT + "/operationStatus/{operation:str}", opt=READ)
@threaded
def own_status(
    request: ArmRequest, sub: str, group: str, vault: str, operation: str
) -> Response[Body]:
    """The state of an operation of a vault itself, which Azure tells without a job: ours does."""
    body, job_id = _told(request, (sub, group, vault), operation)
    if body["endTime"] == NEVER:
        del body["endTime"]
    body["holdfast"] = {"jobId": job_id}
    return Response(body, headers={"Retry-After": RETRY_AFTER})


@get(
    [
        ITEM + "/operationsStatus/{operation:str}",
        CONTAINER + "/operationsStatus/{operation:str}",
        FABRIC + "/operationsStatus/{operation:str}",
        JOB + "/operationsStatus/{operation:str}",
        POLICY + "/operations/{operation:str}",
    ],
    opt=READ,
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
    job: str = "",
    policy: str = "",
) -> Response[Body]:
    """The same, asked for at the resource the operation is about."""
    return _status(request, (sub, group, vault), operation)


@get(
    [
        VAULT + "/backupOperationResults/{operation:str}",
        ITEM + "/operationResults/{operation:str}",
        CONTAINER + "/operationResults/{operation:str}",
        FABRIC + "/operationResults/{operation:str}",
        JOB + "/operationResults/{operation:str}",
        POLICY + "/operationResults/{operation:str}",
    ],
    opt=READ,
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
    policy: str = "",
) -> Response[Any]:
    """202 while it runs, 204 when it succeeded, 409 with its error when it failed."""
    return _result(request, (sub, group, vault), operation)


def _result(request: ArmRequest, names: tuple[str, str, str], operation: str) -> Response[Any]:
    row, followed = find_operation(request, names, operation)
    state = _state(row, followed)
    if state == "InProgress":
        call = call_of(request)
        version = quote(call.query("api-version"), safe="")
        here = f"{call.address(request.scope['path'])}?api-version={version}"
        headers = {"Retry-After": RETRY_AFTER, "Location": here}
        return Response(content=None, status_code=202, headers=headers)
    if state == "Failed":
        return Response({"error": _error(row, followed)}, status_code=409)
    if row.kind == LISTING and followed is not None and state == "Succeeded":
        return _listing(request, row, followed)
    return Response(content=None, status_code=204)


@get(VAULT + "/operationResults/{operation:str}", opt=READ)
@threaded
def own_result(
    request: ArmRequest, sub: str, group: str, vault: str, operation: str
) -> Response[Any]:
    """As the others, but 200 with the vault while there is one that the caller may read."""
    ended = _result(request, (sub, group, vault), operation)
    if ended.status_code != 204:
        return ended
    try:
        found = vault_call(request, sub, group, vault)
    except NotFoundError:
        return ended
    may_read = found.call.principal.may(f"{RS}/read", found.id)
    return Response(vault_shown(found.call, found.row)) if may_read else ended


def _listing(request: ArmRequest, row: OperationRow, job: JobRow) -> Response[Any]:
    """For whoever asked for it. NotFoundError (OperationNotFound)."""
    call = call_of(request)
    if row.created_by != call.principal.id:
        raise NotFoundError(
            "this list was asked for by somebody else",
            code="OperationNotFound",
            hint="ask for it anew: holdfast vm browse",
        )
    return Response(listing_body(call.platform, job), status_code=200)


ROUTES = [vault_status, own_status, inner_status, results, own_result]
