"""Vaults and their standing configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar import Response, delete, get, patch, put

from holdfast.arm import wire
from holdfast.arm.guard import needs_below
from holdfast.arm.http import (
    PAGE_ROWS,
    Answering,
    ArmRequest,
    Body,
    Call,
    accepted,
    call_of,
    listed,
    threaded,
)
from holdfast.arm.subscriptions import check_subscription
from holdfast.catalog import listing, places, vaults
from holdfast.catalog.vaults import VaultRow
from holdfast.services import vault_life
from holdfast.services import vaults as service
from holdfast.services.vault_health import health_of

RS = "Microsoft.RecoveryServices/vaults"
IN_SUB = "/subscriptions/{sub:str}/providers/Microsoft.RecoveryServices/vaults"
IN_GROUP = "/".join(("/subscriptions/{sub:str}/resourceGroups/{group:str}", f"providers/{RS}"))
VAULT = IN_GROUP + "/{vault:str}"
READ, WRITE = {"action": f"{RS}/read"}, {"action": f"{RS}/write"}


@dataclass(frozen=True, slots=True)
class VaultCall:
    """A request about one vault. ``id``: its ARM id."""

    call: Call
    row: VaultRow
    id: str


def vault_call(request: ArmRequest, sub: str, group: str, vault: str) -> VaultCall:
    """NotFoundError for an unknown subscription, group or vault."""
    call = call_of(request)
    check_subscription(call, sub)
    row = service.get_vault(call.platform, group, vault)
    return VaultCall(call, row, wire.vault_id(row, group_name(call, row)))


def vault_operation(vault: str) -> Answering:
    """Operations of a vault itself answer right below it."""
    return Answering(vault, status="operationStatus")


def vault_job(vault: str) -> Answering:
    """Operations that a job of the vault does; they name it."""
    return Answering(vault, "backupOperations", "backupOperationResults")


def group_name(call: Call, row: VaultRow) -> str:
    """The group as it was named first."""
    where = (row.subscription_id, row.group_key)
    recall = call.platform.catalog.recall
    found = recall(("group", *where), lambda asked: places.get_group(asked, *where))
    return found.name if found else row.group_key


def vault_shown(call: Call, row: VaultRow) -> Body:
    """A vault as it answers, with what is to be done about it."""
    return wire.vault_body(row, group_name(call, row), health_of(call.platform, row))


@get([IN_SUB, IN_GROUP], opt=needs_below(f"{RS}/read"))
@threaded
def list_vaults(request: ArmRequest, sub: str, group: str | None = None) -> Body:
    """Vaults of a group or of the subscription, by name: those the caller may read."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    with call.platform.catalog.read() as connection:
        page = vaults.page_vaults(connection, owner, group, limit=PAGE_ROWS, token=call.skip_token)
        names = listing.group_names(connection, owner, (row.group_key for row in page.rows))
    rows = [wire.vault_body(row, names.get(row.group_key, row.group_key)) for row in page.rows]
    seen = [body for body in rows if call.principal.may(f"{RS}/read", body["id"])]
    return listed(seen, call, page.next_token)


@get(VAULT, opt=READ)
@threaded
def get_vault(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """A vault, where it lies, and what is to be done about it."""
    found = vault_call(request, sub, group, vault)
    return vault_shown(found.call, found.row)


@put(VAULT, opt=WRITE)
@threaded
def put_vault(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Response[Body]:
    """Create a vault with its default policies, or change it."""
    call = call_of(request)
    check_subscription(call, sub)
    row, new = service.create_vault(call.platform, group, vault, data, call.if_match)
    return Response(vault_shown(call, row), status_code=201 if new else 200)


@patch(VAULT, opt=WRITE)
@threaded
def patch_vault(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """Merge a partial body into a vault."""
    call = call_of(request)
    check_subscription(call, sub)
    return vault_shown(call, service.change_vault(call.platform, group, vault, data, call.if_match))


@delete(VAULT, opt={"action": f"{RS}/delete"}, status_code=202)
@threaded
def delete_vault(request: ArmRequest, sub: str, group: str, vault: str) -> Response[None]:
    """Delete a vault that protects nothing; with soft delete it can be undeleted for a while."""
    call = call_of(request)
    check_subscription(call, sub)
    if not vault_life.delete_vault(call.platform, group, vault):
        return Response(content=None, status_code=204)
    holder = f"{wire.group_id(call.platform.subscription_id, group)}/providers/{RS}/{vault}"
    return accepted(call, holder, "DeleteVault", None, vault_operation(holder))


ROUTES = [list_vaults, get_vault, put_vault, patch_vault, delete_vault]
