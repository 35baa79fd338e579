"""Long-running operations: one id answers under every address a client may build from it."""

from __future__ import annotations

from typing import Any

from litestar import Response, get

from holdfast.arm.containers import CONTAINER
from holdfast.arm.guard import needs
from holdfast.arm.http import RETRY_AFTER, ArmRequest, Body, call_of, stamp, threaded
from holdfast.arm.items import ITEM
from holdfast.arm.jobs import JOB
from holdfast.arm.policies import POLICY
from holdfast.arm.vaults import RS, VAULT
from holdfast.catalog import jobs, operations
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.operations import OperationRow
from holdfast.errors import NotFoundError

FABRIC = VAULT + "/backupFabrics/{fabric:str}"
READ = needs(f"{RS}/read")
NEVER = "0001-01-01T00:00:00"
# Azure calls a backup or restore operation over once its job runs; all others follow their job
FOLLOWED_BY_JOB = frozenset({"Backup", "Restore"})
_STATE = {
    "Completed": "Succeeded",
    "CompletedWithWarnings": "Succeeded",
    "Failed": "Failed",
    "Cancelled": "Canceled",
}


def _operation(
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
    if job is None or not job.error_code:
        return {}
    return {"code": job.error_code, "message": job.error_message, "hint": job.error_hint}


def _status(request: ArmRequest, names: tuple[str, str, str], operation: str) -> Response[Body]:
    """Always 200, the state in the body."""
    row, job = _operation(request, names, operation)
    state = _state(row, job)
    ended = row.ended_at or (job.ended_at if job else None) or row.created_at
    body: Body = {
        "id": request.scope["path"],
        "name": row.id,
        "status": state,
        "startTime": stamp(row.created_at),
        "endTime": NEVER if state == "InProgress" else stamp(ended),
        "properties": None,
    }
    if row.job_id:
        extended = {"objectType": "OperationStatusJobExtendedInfo", "jobId": row.job_id}
        body["properties"] = extended
    if state in ("Failed", "Canceled"):
        body["error"] = _error(row, job) or {"code": state, "message": "the job was cancelled"}
    return Response(body, headers={"Retry-After": RETRY_AFTER})


@get(
    [
        VAULT + "/backupOperations/{operation:str}",
        VAULT + "/operationStatus/{operation:str}",
        VAULT + "/operationsStatus/{operation:str}",
    ],
    opt=READ,
)
@threaded
def vault_status(
    request: ArmRequest, sub: str, group: str, vault: str, operation: str
) -> Response[Body]:
    """The state of a vault's operation."""
    return _status(request, (sub, group, vault), operation)


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
        VAULT + "/operationResults/{operation:str}",
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
    row, followed = _operation(request, (sub, group, vault), operation)
    state = _state(row, followed)
    if state == "InProgress":
        headers = {"Retry-After": RETRY_AFTER, "Location": str(request.url)}
        return Response(content=None, status_code=202, headers=headers)
    if state == "Failed":
        return Response({"error": _error(row, followed)}, status_code=409)
    return Response(content=None, status_code=204)


ROUTES = [vault_status, inner_status, results]
