"""Files of virtual machines' recovery points: listed and restored by a host, asked for here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from litestar import Response, post

from holdfast.arm.guard import needs
from holdfast.arm.http import ArmRequest, Body, accepted, properties_of, stamp, threaded
from holdfast.arm.items import answering
from holdfast.arm.points import KIND, POINT
from holdfast.arm.vaults import vault_call
from holdfast.catalog.jobs import JobRow
from holdfast.domain.access import RESTORE_ELSEWHERE
from holdfast.services import machine_files as service
from holdfast.services.platform import Platform
from holdfast.services.rates import VM_USES, within

LIST = POINT + "/providers/Holdfast.Backup/listFiles"
RESTORE = POINT + "/providers/Holdfast.Backup/restoreFiles"
LISTING = "BrowseFiles"  # the kind of its operation


@post(LIST, opt=needs(f"{KIND}/provisionInstantItemRecovery/action"), status_code=202)
@threaded
def list_files(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    point: str,
    data: dict[str, Any],
) -> Response[None]:
    """List a folder of a virtual machine's point, or its volumes ("/"), by a job of its host; the
    operation's result is the list."""
    found = vault_call(request, sub, group, vault)
    call, names = found.call, (container, item)
    plan = service.plan_list(call.platform, found.row, names, point, properties_of(data))
    if plan.elsewhere:
        call.principal.check(RESTORE_ELSEWHERE, found.id)
    job = service.start(call.platform, found.row, plan, call.principal.name)
    return accepted(call, found.id, LISTING, job, answering(found, *names))


@post(RESTORE, opt=needs(f"{KIND}/restore/action"), status_code=202)
@threaded
def restore_files(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    point: str,
    data: dict[str, Any],
) -> Response[None]:
    """Restore files of a virtual machine's point into a folder of a host, by a job."""
    found = vault_call(request, sub, group, vault)
    call, names = found.call, (container, item)
    plan = service.plan_restore(call.platform, found.row, names, point, properties_of(data))
    if plan.elsewhere:
        call.principal.check(RESTORE_ELSEWHERE, found.id)
    with within(call.platform, VM_USES, plan.item.id):
        job = service.start(call.platform, found.row, plan, call.principal.name)
    return accepted(call, found.id, "Restore", job, answering(found, *names))


def listing_body(platform: Platform, job: JobRow) -> Body:
    """The result of a list's operation."""
    rows, token = service.listed(platform, job)
    shown = [{**row, "mtime": _mtime(row["mtime"])} for row in rows]
    return {"value": shown, "skipToken": token or None}


def _mtime(moment: datetime | None) -> str | None:
    return stamp(moment)


ROUTES = [list_files, restore_files]
