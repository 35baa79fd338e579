"""Jobs exported as files: Azure writes them to a blob, here the server hands them out itself."""

from __future__ import annotations

import csv
import io
from urllib.parse import quote

from litestar import Response, get, post

from holdfast.arm.filters import parse_filter
from holdfast.arm.guard import needs
from holdfast.arm.http import Answering, ArmRequest, Body, accepted, call_of, threaded
from holdfast.arm.jobs import KIND, jobs_of
from holdfast.arm.operations import find_operation
from holdfast.arm.ours import OURS
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog.operations import OperationRow
from holdfast.errors import NotFoundError, UsageError
from holdfast.services.report_csv import plain_cell

EXPORT = "ExportJobs"
READ = needs(f"{KIND}/operationResults/read")
MOST_JOBS = 20_000
COLUMNS = (
    "entityFriendlyName",
    "operation",
    "status",
    "startTime",
    "endTime",
    "duration",
    "backupManagementType",
)


@post(
    VAULT + "/backupJobsExport",
    opt=needs(f"{RS}/backupJobsExport/action"),
    status_code=202,
)
@threaded
def export_jobs(request: ArmRequest, sub: str, group: str, vault: str) -> Response[None]:
    """Have jobs written to a file; ``$filter`` as in the list."""
    found = vault_call(request, sub, group, vault)
    text = found.call.query("$filter")
    parse_filter(text)
    answering = Answering(f"{found.id}/backupJobs")
    return accepted(found.call, found.id, EXPORT, None, answering, {"filter": text})


def _export(request: ArmRequest, names: tuple[str, str, str], operation: str) -> OperationRow:
    row, _ = find_operation(request, names, operation)
    if row.kind != EXPORT:
        raise NotFoundError(
            f"operation {row.id} exports no jobs",
            code="OperationNotFound",
            hint="ask for an export first: POST backupJobsExport",
        )
    return row


@get(VAULT + "/backupJobs/operationResults/{operation:str}", opt=READ)
@threaded
def get_export(request: ArmRequest, sub: str, group: str, vault: str, operation: str) -> Body:
    """Where the files are; they are read with the same token as everything else."""
    row = _export(request, (sub, group, vault), operation)
    call, found = call_of(request), vault_call(request, sub, group, vault)
    version = quote(call.query("api-version"), safe="")
    url = f"{call.base}{found.id}/providers/Holdfast.Backup/jobExports/{row.id}"
    return {
        "headers": {},
        "statusCode": "OK",
        "operation": {
            "objectType": "ExportJobsOperationResultInfo",
            "blobUrl": f"{url}?api-version={version}",
            "blobSasKey": "",
            "excelFileBlobUrl": f"{url}?api-version={version}&format=csv",
            "excelFileBlobSasKey": "",
        },
    }


@get(OURS + "/jobExports/{operation:str}", opt=READ)
@threaded
def read_export(
    request: ArmRequest, sub: str, group: str, vault: str, operation: str
) -> Response[Body | str]:
    """The jobs that the export's filter chooses; ``format``: json or csv."""
    row = _export(request, (sub, group, vault), operation)
    found = vault_call(request, sub, group, vault)
    wanted = found.call.query("format") or "json"
    if wanted not in ("json", "csv"):
        raise UsageError(
            f"{wanted[:50]!r} is no format of an export",
            code="InvalidParameter",
            hint="give json or csv",
        )
    jobs = _all_jobs(found, str(row.result.get("filter") or ""))
    name = f"jobs-{found.row.name}.{wanted}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if wanted == "csv":
        return Response(_csv(jobs), media_type="text/csv", headers=headers)
    return Response({"value": jobs}, headers=headers)


def _all_jobs(found: VaultCall, text: str) -> list[Body]:
    rows, token = jobs_of(found, text)
    while token and len(rows) < MOST_JOBS:
        more, token = jobs_of(found, text, token)
        rows += more
    return rows


def _csv(rows: list[Body]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(("jobId", *COLUMNS, "errorCode", "errorMessage"))
    for row in rows:
        found = row["properties"]
        error = (found.get("errorDetails") or [{}])[0]
        cells = [row["name"], *(found.get(name) or "" for name in COLUMNS)]
        cells += [found["holdfast"].get("errorCode") or "", error.get("errorString") or ""]
        writer.writerow([plain_cell(str(cell)) for cell in cells])
    return out.getvalue()


ROUTES = [export_jobs, get_export, read_export]
