"""Recovery points of an item: list, look into, restore."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from litestar import Response, get, post

from holdfast.arm import wire
from holdfast.arm.filters import parse_date, parse_filter
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    PAGE_ROWS,
    ArmRequest,
    Body,
    accepted,
    check_kind,
    listed,
    properties_of,
    stamp,
    threaded,
)
from holdfast.arm.items import ITEM, answering
from holdfast.arm.items import KIND as ITEMS
from holdfast.arm.vaults import VaultCall, vault_call
from holdfast.catalog import points, recoveries
from holdfast.catalog.points import PointRow
from holdfast.domain.access import RESTORE_ELSEWHERE
from holdfast.domain.virtual_machines import is_machine
from holdfast.errors import UsageError
from holdfast.services import items as service
from holdfast.services import machine_restore, recovery
from holdfast.services.item_views import view_item
from holdfast.services.kept_copies import copies_of, copy_of, local_points
from holdfast.services.rates import RESTORES, VM_RESTORES, within

KIND = f"{ITEMS}/recoveryPoints"
POINT = ITEM + "/recoveryPoints/{point:str}"
READ = needs(f"{KIND}/read")
PARTS = ("log", "differential", "incremental")  # of databases alone


@get(ITEM + "/recoveryPoints", opt=READ)
@threaded
def list_points(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str, item: str
) -> Body:
    """Recovery points, newest first; ``$filter``: startDate, endDate, restorePointQueryType."""
    found = vault_call(request, sub, group, vault)
    call, wanted = found.call, parse_filter(found.call.query("$filter"))
    since, until = parse_date(wanted.get("startdate")), parse_date(wanted.get("enddate"))
    with call.platform.catalog.read() as connection:
        _, row = service.find_item(connection, found.row, container, item)
        if row.deleted_at is not None or wanted.get("restorepointquerytype", "").lower() in PARTS:
            return {"value": []}  # as Azure: of a deleted item none can be restored
        view = view_item(call.platform, connection, row)
        latest = points.latest_point(connection, row.id)
        page = points.page_points(
            connection, row.id, since=since, until=until, limit=PAGE_ROWS, token=call.skip_token
        )
        mounted = recoveries.open_points(connection, row.id, call.platform.now())
        copies = copies_of(connection, row)
        alone = [] if call.skip_token else local_points(connection, row, copies)
    newest = latest.rp_id if latest else ""
    rows = [
        wire.point_body(
            point,
            view,
            found.id,
            newest=point.rp_id == newest,
            mounted=point.rp_id in mounted,
            local=copy_of(point, copies) is not None,
        )
        for point in _by_time(page.rows, alone, since, until)
    ]
    return listed(rows, call, page.next_token)


def _by_time(
    rows: Sequence[PointRow],
    alone: Sequence[PointRow],
    since: datetime | None,
    until: datetime | None,
) -> list[PointRow]:
    """Points of the vault with those their hosts alone have, newest first."""
    wanted = [
        row
        for row in alone
        if (since is None or row.time >= since) and (until is None or row.time <= until)
    ]
    return sorted([*rows, *wanted], key=lambda row: row.time, reverse=True)


@get(POINT, opt=READ)
@threaded
def get_point(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    point: str,
) -> Body:
    """One recovery point, by id or ``latest``."""
    found = vault_call(request, sub, group, vault)
    with found.call.platform.catalog.read() as connection:
        _, row = service.find_item(connection, found.row, container, item)
        view = view_item(found.call.platform, connection, row)
        one = recovery.find_any_point(connection, found.row, row, point)
        latest = points.latest_point(connection, row.id)
        mounted = recoveries.open_points(connection, row.id, found.call.platform.now())
        local = copy_of(one, copies_of(connection, row)) is not None
    newest = latest is not None and latest.rp_id == one.rp_id
    return wire.point_body(
        one, view, found.id, newest=newest, mounted=one.rp_id in mounted, local=local
    )


@post(POINT + "/restore", opt=needs(f"{KIND}/restore/action"), status_code=202)
@threaded
def restore(
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
    """Restore a recovery point, by a job."""
    found = vault_call(request, sub, group, vault)
    call = found.call
    if is_machine(container):
        return _restore_machine(found, (container, item), point, properties_of(data))
    check_kind(properties_of(data), "objectType", "FilesRestoreRequest", needed=False)
    asked = recovery.read_restore(properties_of(data))
    if asked.elsewhere(container):
        call.principal.check(RESTORE_ELSEWHERE, found.id)
    with call.platform.catalog.read() as connection:
        _, row = service.find_item(connection, found.row, container, item)
    with within(call.platform, RESTORES, row.id):
        job = recovery.restore(
            call.platform, found.row, container, item, point, asked, call.principal.name
        )
    return accepted(call, found.id, "Restore", job, answering(found, container, item))


def _restore_machine(
    found: VaultCall, names: tuple[str, str], point: str, properties: Body
) -> Response[None]:
    call = found.call
    check_kind(properties, "objectType", "IaasVMRestoreRequest")
    plan = machine_restore.plan_restore(call.platform, found.row, names, point, properties)
    if plan.elsewhere:
        call.principal.check(RESTORE_ELSEWHERE, found.id)
    with within(call.platform, VM_RESTORES, plan.item.id):
        job = machine_restore.start_restore(call.platform, found.row, plan, call.principal.name)
    return accepted(call, found.id, "Restore", job, answering(found, *names))


@get(POINT + "/providers/Holdfast.Backup/files", opt=READ)
@threaded
def browse(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    point: str,
) -> Body:
    """A folder of a recovery point of files, by name."""
    found = vault_call(request, sub, group, vault)
    call = found.call
    if is_machine(container):
        raise UsageError(
            "files of virtual machines are listed by their host",
            code="UserErrorNotSupported",
            hint="holdfast vm browse VM --recovery-point RP, or POST .../listFiles",
        )
    rows, token = recovery.browse(
        call.platform,
        found.row,
        container,
        item,
        point,
        call.query("path") or "/",
        call.number("$top", PAGE_ROWS),
        call.skip_token,
    )
    shaped = [{**row, "mtime": _mtime(row["mtime"])} for row in rows]
    return listed(shaped, call, token)


def _mtime(moment: datetime) -> str | None:
    return stamp(moment)


ROUTES = [list_points, get_point, restore, browse]
