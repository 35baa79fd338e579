"""Containers, protected items, their backups and recovery points."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from litestar import Response, delete, get, post, put

from holdfast.arm import wire
from holdfast.arm.filters import parse_date, parse_filter
from holdfast.arm.http import (
    PAGE_ROWS,
    Answering,
    ArmRequest,
    Body,
    accepted,
    listed,
    noted,
    properties_of,
    read_time,
    stamp,
    threaded,
)
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog import containers, items, points
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.domain.access import RESTORE_ELSEWHERE
from holdfast.domain.names import full_container_name, full_item_name
from holdfast.services import items as service
from holdfast.services import recovery

CONTAINERS = f"{RS}/backupFabrics/protectionContainers"
ITEMS = f"{CONTAINERS}/protectedItems"
CONTAINER = VAULT + "/backupFabrics/{fabric:str}/protectionContainers/{container:str}"
ITEM = CONTAINER + "/protectedItems/{item:str}"
POINT = ITEM + "/recoveryPoints/{point:str}"


def _container(found: VaultCall, row: ContainerRow) -> Body:
    with found.call.platform.catalog.read() as connection:
        agent = containers.get_agent(connection, row.agent_id) if row.agent_id else None
        count = items.count_items_on(connection, row.id)
    return wire.container_body(row, found.id, agent, count)


@get(VAULT + "/backupProtectionContainers", opt={"action": f"{CONTAINERS}/read"})
@threaded
def list_containers(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Registered machines; ``$filter``: backupManagementType, friendlyName."""
    found = vault_call(request, sub, group, vault)
    wanted = parse_filter(found.call.query("$filter"))
    if wanted.get("backupmanagementtype", "MAB").upper() != "MAB":
        return {"value": []}
    with found.call.platform.catalog.read() as connection:
        page = containers.page_containers(
            connection, found.row.id, limit=PAGE_ROWS, token=found.call.skip_token
        )
    friendly = wanted.get("friendlyname", "").lower()
    chosen = [row for row in page.rows if friendly in ("", row.friendly_name.lower())]
    rows = [_container(found, row) for row in chosen]
    return listed(rows, found.call, page.next_token)


@get(CONTAINER, opt={"action": f"{CONTAINERS}/read"})
@threaded
def get_container(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str
) -> Body:
    """One registered machine."""
    found = vault_call(request, sub, group, vault)
    with found.call.platform.catalog.read() as connection:
        row = service.find_container(connection, found.row, container)
    return _container(found, row)


@delete(CONTAINER, opt={"action": f"{CONTAINERS}/delete"}, status_code=202)
@threaded
def unregister(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str
) -> Response[None]:
    """Remove a machine that protects nothing, and revoke its agent."""
    found = vault_call(request, sub, group, vault)
    row = recovery.unregister_container(found.call.platform, found.row, container)
    holder = Answering(wire.container_id(found.id, row.name))
    return accepted(found.call, found.id, "UnRegister", None, holder)


def _at(found: VaultCall, container: str, item: str) -> Answering:
    """Operations of an item answer below it, under its full names."""
    names = full_container_name(container), full_item_name(item)
    return Answering(wire.item_id(found.id, *names))


def _item(found: VaultCall, row: ItemRow) -> Body:
    with found.call.platform.catalog.read() as connection:
        view = service.view_item(found.call.platform, connection, row)
    return wire.item_body(view, found.id)


@get(VAULT + "/backupProtectedItems", opt={"action": f"{ITEMS}/read"})
@threaded
def list_items(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Protected items and how they are doing; ``$filter``: backupManagementType, policyName."""
    found = vault_call(request, sub, group, vault)
    wanted = parse_filter(found.call.query("$filter"))
    if wanted.get("backupmanagementtype", "MAB").upper() != "MAB":
        return {"value": []}
    with found.call.platform.catalog.read() as connection:
        page = items.page_items(
            connection, found.row.id, limit=PAGE_ROWS, token=found.call.skip_token
        )
    rows = [_item(found, row) for row in page.rows]
    policy = wanted.get("policyname", "").lower()
    chosen = [
        row for row in rows if not policy or row["properties"]["policyName"].lower() == policy
    ]
    return listed(chosen, found.call, page.next_token)


@get(ITEM, opt={"action": f"{ITEMS}/read"})
@threaded
def get_item(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str, item: str
) -> Body:
    """One protected item."""
    found = vault_call(request, sub, group, vault)
    with found.call.platform.catalog.read() as connection:
        _, row = service.find_item(connection, found.row, container, item)
    return _item(found, row)


@put(ITEM, opt={"action": f"{ITEMS}/write"})
@threaded
def put_item(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    data: dict[str, Any],
) -> Response[Body]:
    """Done at once: 200 with the item, and an operation for clients that want one."""
    found = vault_call(request, sub, group, vault)
    properties = properties_of(data)
    if properties.get("protectionState") in ("ProtectionStopped", "BackupsSuspended"):
        found.call.principal.check(f"{ITEMS}/delete", found.id)
    row = service.put_item(found.call.platform, found.row, container, item, properties)
    headers = noted(found.call, found.id, "ConfigureBackup", None, _at(found, container, item))
    return Response(_item(found, row), status_code=200, headers=headers)


@delete(ITEM, opt={"action": f"{ITEMS}/delete"}, status_code=202)
@threaded
def delete_item(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str, item: str
) -> Response[None]:
    """Stop protection and delete the data, by a job."""
    found = vault_call(request, sub, group, vault)
    call = found.call
    job = service.delete_item(call.platform, found.row, container, item, call.principal.name)
    answering = Answering(found.id, "backupOperations", "backupOperationResults")
    return accepted(call, found.id, "DeleteBackupData", job, answering)


@post(ITEM + "/backup", opt={"action": f"{ITEMS}/backup/action"}, status_code=202)
@threaded
def back_up(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    data: dict[str, Any],
) -> Response[None]:
    """Back an item up now, by a job."""
    found = vault_call(request, sub, group, vault)
    call = found.call
    retain = read_time(properties_of(data).get("recoveryPointExpiryTimeInUTC"), "the expiry time")
    job = service.back_up_now(
        call.platform, found.row, container, item, retain, call.principal.name
    )
    return accepted(call, found.id, "Backup", job, _at(found, container, item))


# recovery points


@get(ITEM + "/recoveryPoints", opt={"action": f"{ITEMS}/recoveryPoints/read"})
@threaded
def list_points(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str, item: str
) -> Body:
    """Recovery points, newest first; ``$filter``: startDate, endDate."""
    found = vault_call(request, sub, group, vault)
    call, wanted = found.call, parse_filter(found.call.query("$filter"))
    since, until = parse_date(wanted.get("startdate")), parse_date(wanted.get("enddate"))
    with call.platform.catalog.read() as connection:
        _, row = service.find_item(connection, found.row, container, item)
        view = service.view_item(call.platform, connection, row)
        latest = points.latest_point(connection, row.id)
        page = points.page_points(
            connection, row.id, since=since, until=until, limit=PAGE_ROWS, token=call.skip_token
        )
    newest = latest.rp_id if latest else ""
    rows = [
        wire.point_body(point, view, found.id, newest=point.rp_id == newest) for point in page.rows
    ]
    return listed(rows, call, page.next_token)


@get(POINT, opt={"action": f"{ITEMS}/recoveryPoints/read"})
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
        view = service.view_item(found.call.platform, connection, row)
        one = recovery.find_point(connection, found.row, row, point)
        latest = points.latest_point(connection, row.id)
    newest = latest is not None and latest.rp_id == one.rp_id
    return wire.point_body(one, view, found.id, newest=newest)


@post(POINT + "/restore", opt={"action": f"{ITEMS}/recoveryPoints/restore/action"}, status_code=202)
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
    asked = recovery.read_restore(properties_of(data))
    if asked.elsewhere(container):
        call.principal.check(RESTORE_ELSEWHERE, found.id)
    job = recovery.restore(
        call.platform, found.row, container, item, point, asked, call.principal.name
    )
    return accepted(call, found.id, "Restore", job, _at(found, container, item))


@get(POINT + "/providers/Holdfast.Backup/files", opt={"action": f"{ITEMS}/recoveryPoints/read"})
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
    """A folder of a recovery point, by name."""
    found = vault_call(request, sub, group, vault)
    call = found.call
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


ROUTES = [
    list_containers,
    get_container,
    unregister,
    list_items,
    get_item,
    put_item,
    delete_item,
    back_up,
    list_points,
    get_point,
    restore,
    browse,
]
