"""Deleted vaults of a location, named by their GUIDs, and bringing them back."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post

from holdfast.arm import wire
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    RETRY_AFTER,
    Answering,
    ArmRequest,
    Body,
    accepted,
    call_of,
    properties_of,
    stamp,
    text_of,
    threaded,
)
from holdfast.arm.subscriptions import SUB, check_subscription
from holdfast.catalog import operations
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import NotFoundError, UsageError
from holdfast.services import vault_life

PROVIDER = "Microsoft.RecoveryServices"
KIND = f"{PROVIDER}/locations/deletedVaults"
VAULTS_OF = SUB + f"/providers/{PROVIDER}/locations/{{location:str}}/deletedVaults"
ONE = VAULTS_OF + "/{deleted:str}"
READ = needs(f"{KIND}/read")


def _address(subscription: str, location: str, name: str) -> str:
    where = f"/subscriptions/{subscription}/providers/{PROVIDER}/locations/{location}"
    return f"{where}/deletedVaults/{name}"


def _body(row: VaultRow) -> Body:
    return {
        "id": _address(row.subscription_id, row.location, row.id),
        "name": row.id,
        "type": KIND,
        "properties": {
            "vaultId": wire.vault_id(row, row.group_key),
            "vaultDeletionTime": stamp(row.deleted_at),
            "purgeAt": stamp(row.purge_at),
        },
    }


@get(VAULTS_OF, opt=READ)
@threaded
def list_deleted(request: ArmRequest, sub: str, location: str) -> Body:
    """Deleted vaults that can still be brought back, the one that goes next first."""
    call = call_of(request)
    check_subscription(call, sub)
    return {"value": [_body(row) for row in vault_life.list_deleted(call.platform, location)]}


@get(ONE, opt=READ)
@threaded
def get_deleted(request: ArmRequest, sub: str, location: str, deleted: str) -> Body:
    """One deleted vault."""
    call = call_of(request)
    check_subscription(call, sub)
    return _body(vault_life.find_deleted(call.platform, location, deleted))


@post(ONE + "/undelete", opt=needs(f"{KIND}/undelete/action"), status_code=202)
@threaded
def undelete(
    request: ArmRequest, sub: str, location: str, deleted: str, data: dict[str, Any]
) -> Response[None]:
    """Bring a vault back into a resource group, where the caller must be allowed to write it."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    group = _group(owner, text_of(properties_of(data), "recoveryResourceGroupId"))
    row = vault_life.find_deleted(call.platform, location, deleted)
    held = f"{wire.group_id(owner, group)}/providers/{PROVIDER}/vaults/{row.name}"
    call.principal.check(f"{PROVIDER}/vaults/write", held)
    vault_life.undelete_vault(call.platform, location, row.id, group)
    place = _address(owner, location, row.id)
    answering = Answering(place, status="operations", results="operations")
    return accepted(call, place, "UndeleteVault", None, answering)


def _group(subscription: str, given: str) -> str:
    """The group's name in its ARM id. UsageError (InvalidRequestContent)."""
    before, _, name = given.rstrip("/").rpartition("/")
    if before.lower() == f"/subscriptions/{subscription}/resourcegroups".lower() and name:
        return name
    raise UsageError(
        "recoveryResourceGroupId is missing, or names no resource group of this subscription",
        code="InvalidRequestContent",
        hint=f"give /subscriptions/{subscription}/resourceGroups/NAME",
    )


@get(ONE + "/operations/{operation:str}", opt=READ)
@threaded
def undelete_status(
    request: ArmRequest, sub: str, location: str, deleted: str, operation: str
) -> Response[Body]:
    """How an undeletion went; it is over at once."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    with call.platform.catalog.read() as connection:
        row = operations.get_operation(connection, operation.lower())
    if row is None or row.scope != _address(owner, location, deleted).lower():
        raise NotFoundError(
            f"there is no operation {operation[:100]}",
            code="OperationNotFound",
            hint="operations are forgotten after a while; see: holdfast vault list",
        )
    body: Body = {
        "id": request.scope["path"],
        "name": row.id,
        "status": row.state,
        "startTime": stamp(row.created_at),
        "endTime": stamp(row.ended_at),
    }
    return Response(body, headers={"Retry-After": RETRY_AFTER})


ROUTES = [list_deleted, get_deleted, undelete, undelete_status]
