"""Protected items: protect, change, stop, delete, undelete, back up now."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from litestar import Response, delete, get, post, put

from holdfast.arm import wire
from holdfast.arm.actions import by_address
from holdfast.arm.containers import CONTAINER
from holdfast.arm.containers import KIND as CONTAINERS
from holdfast.arm.filters import kind_asked, parse_filter
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    PAGE_ROWS,
    Answering,
    ArmRequest,
    Body,
    accepted,
    check_kind,
    flag_of,
    listed,
    properties_of,
    read_time,
    text_of,
    threaded,
)
from holdfast.arm.machine_bodies import COMPUTE
from holdfast.arm.vaults import VAULT, VaultCall, vault_call, vault_job
from holdfast.catalog import items, policies
from holdfast.catalog.items import ItemRow
from holdfast.domain.lifecycle import STOPPED
from holdfast.domain.names import full_container_name, full_item_name
from holdfast.domain.virtual_machines import is_machine
from holdfast.services import item_life
from holdfast.services import items as service
from holdfast.services.item_views import view_item, view_items
from holdfast.services.rates import BACKUPS, PROTECTION_CHANGES, VM_BACKUPS, within

KIND = f"{CONTAINERS}/protectedItems"
VM_KINDS = (COMPUTE, "AzureIaaSVMProtectedItem")
ITEM = CONTAINER + "/protectedItems/{item:str}"


def answering(found: VaultCall, container: str, item: str) -> Answering:
    """Operations of an item answer below it, under its full names."""
    names = full_container_name(container), full_item_name(item)
    return Answering(wire.item_id(found.id, *names))


def _item(found: VaultCall, row: ItemRow) -> Body:
    with found.call.platform.catalog.read() as connection:
        view = view_item(found.call.platform, connection, row)
    return wire.item_body(view, found.id)


def _item_id(found: VaultCall, container: str, item: str) -> str:
    with found.call.platform.catalog.read() as connection:
        return service.find_item(connection, found.row, container, item)[1].id


def _kinds(container: str) -> tuple[str, ...]:
    """Azure's words for items of a container."""
    return VM_KINDS if is_machine(container) else ("MabFileFolderProtectedItem",)


@get(VAULT + "/backupProtectedItems", opt=by_address())
@threaded
def list_items(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Protected items and how they are doing; ``$filter``: backupManagementType, itemType,
    policyName."""
    found = vault_call(request, sub, group, vault)
    wanted = parse_filter(found.call.query("$filter"))
    try:
        kind = kind_asked(wanted)
    except LookupError:
        return {"value": []}
    platform, name = found.call.platform, wanted.get("policyname")
    with platform.catalog.read() as connection:
        policy = policies.find_policy(connection, found.row.id, name) if name else None
        if name and policy is None:
            return {"value": []}
        page = items.page_items(
            connection,
            found.row.id,
            policy_id=policy.id if policy else None,
            workload_type=kind[1] if kind else None,
            limit=PAGE_ROWS,
            token=found.call.skip_token,
        )
        views = view_items(platform, connection, page.rows)
    rows = [wire.item_body(view, found.id) for view in views]
    return listed(rows, found.call, page.next_token)


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


@put(ITEM, opt=needs(f"{KIND}/write"), status_code=202)
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
) -> Response[None]:
    """Protect, change, stop, suspend, undelete or resume: done at once, by a job that tells of it.
    With another policy the job says how many recovery points it touches."""
    found = vault_call(request, sub, group, vault)
    call, properties = found.call, properties_of(data)
    check_kind(properties, "protectedItemType", *_kinds(container))
    undeleting = flag_of(properties, "isRehydrate")
    if text_of(properties, "protectionState") in STOPPED and not undeleting:
        call.principal.check(f"{KIND}/delete", found.id)
    # what was deleted may have to come back in any number
    counted = (
        nullcontext() if undeleting else within(call.platform, PROTECTION_CHANGES, found.row.id)
    )
    with counted:
        saved = item_life.put_item(
            call.platform,
            found.row,
            container,
            item,
            properties,
            call.principal.name,
            call.if_match,
        )
    holder = answering(found, container, item)
    return accepted(call, found.id, saved.operation, saved.job_id, holder)


@delete(ITEM, opt=needs(f"{KIND}/delete"), status_code=202)
@threaded
def delete_item(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str, item: str
) -> Response[None]:
    """Stop protection and delete the data: softly, for the vault's period, or for good."""
    found = vault_call(request, sub, group, vault)
    call = found.call
    job = item_life.delete_item(call.platform, found.row, container, item, call.principal.name)
    below = vault_job(found.id)
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
    if is_machine(container):
        check_kind(properties_of(data), "objectType", "IaasVMBackupRequest")
    retain = read_time(properties_of(data).get("recoveryPointExpiryTimeInUTC"), "the expiry time")
    rate = VM_BACKUPS if is_machine(container) else BACKUPS
    with within(call.platform, rate, _item_id(found, container, item)):
        job = service.back_up_now(
            call.platform, found.row, container, item, retain, call.principal.name
        )
    return accepted(call, found.id, "Backup", job, answering(found, container, item))


ROUTES = [list_items, get_item, put_item, delete_item, back_up]
