"""Protected items: protect, change, stop, delete, back up now."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, post, put

from holdfast.arm import wire
from holdfast.arm.containers import CONTAINER
from holdfast.arm.containers import KIND as CONTAINERS
from holdfast.arm.filters import parse_filter
from holdfast.arm.guard import needs
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
    threaded,
)
from holdfast.arm.vaults import VAULT, VaultCall, vault_call
from holdfast.catalog import items
from holdfast.catalog.items import ItemRow
from holdfast.domain.names import full_container_name, full_item_name
from holdfast.services import items as service

KIND = f"{CONTAINERS}/protectedItems"
ITEM = CONTAINER + "/protectedItems/{item:str}"


def answering(found: VaultCall, container: str, item: str) -> Answering:
    """Operations of an item answer below it, under its full names."""
    names = full_container_name(container), full_item_name(item)
    return Answering(wire.item_id(found.id, *names))


def _item(found: VaultCall, row: ItemRow) -> Body:
    with found.call.platform.catalog.read() as connection:
        view = service.view_item(found.call.platform, connection, row)
    return wire.item_body(view, found.id)


@get(VAULT + "/backupProtectedItems", opt=needs(f"{KIND}/read"))
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


@get(ITEM, opt=needs(f"{KIND}/read"))
@threaded
def get_item(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str, item: str
) -> Body:
    """One protected item."""
    found = vault_call(request, sub, group, vault)
    with found.call.platform.catalog.read() as connection:
        _, row = service.find_item(connection, found.row, container, item)
    return _item(found, row)


@put(ITEM, opt=needs(f"{KIND}/write"))
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
    """Done at once: 200 with the item, and an operation for clients that want one. Another policy
    says how many recovery points it touches."""
    found = vault_call(request, sub, group, vault)
    properties = properties_of(data)
    if properties.get("protectionState") in ("ProtectionStopped", "BackupsSuspended"):
        found.call.principal.check(f"{KIND}/delete", found.id)
    saved = service.put_item(found.call.platform, found.row, container, item, properties)
    headers = noted(
        found.call, found.id, "ConfigureBackup", None, answering(found, container, item)
    )
    body = _item(found, saved.row)
    if saved.changes is not None:
        body["properties"]["holdfast"]["retentionChange"] = wire.changes_body(saved.changes)
    return Response(body, status_code=200, headers=headers)


@delete(ITEM, opt=needs(f"{KIND}/delete"), status_code=202)
@threaded
def delete_item(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str, item: str
) -> Response[None]:
    """Stop protection and delete the data, by a job."""
    found = vault_call(request, sub, group, vault)
    call = found.call
    job = service.delete_item(call.platform, found.row, container, item, call.principal.name)
    below = Answering(found.id, "backupOperations", "backupOperationResults")
    return accepted(call, found.id, "DeleteBackupData", job, below)


@post(ITEM + "/backup", opt=needs(f"{KIND}/backup/action"), status_code=202)
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
    return accepted(call, found.id, "Backup", job, answering(found, container, item))


ROUTES = [list_items, get_item, put_item, delete_item, back_up]
