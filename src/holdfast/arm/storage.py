"""Storage accounts as resources: folders of hosts to restore into."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, put

from holdfast.arm import wire
from holdfast.arm.guard import needs, needs_below
from holdfast.arm.http import (
    PAGE_ROWS,
    ArmRequest,
    Body,
    call_of,
    listed,
    object_of,
    properties_of,
    text_of,
    threaded,
)
from holdfast.arm.subscriptions import GROUP_PATH, SUB, check_subscription
from holdfast.arm.vaults import RS, group_name
from holdfast.catalog import accounts, listing
from holdfast.errors import UsageError
from holdfast.services import vaults as vault_service
from holdfast.services.accounts import (
    STORAGE,
    AccountAsked,
    AccountView,
    find_account,
    put_account,
    remove_account,
    view_account,
)

KIND = STORAGE
IN_SUB, IN_GROUP = f"{SUB}/providers/{STORAGE}", f"{GROUP_PATH}/providers/{STORAGE}"
ACCOUNT = IN_GROUP + "/{account:str}"


def _body(view: AccountView, group: str, vault: str) -> Body:
    """``vault``: the ARM id of its host's vault."""
    row = view.row
    return {
        "id": f"{wire.group_id(row.subscription_id, group)}/providers/{STORAGE}/{row.name}",
        "name": row.name,
        "type": STORAGE,
        "location": view.vault.location,
        "kind": "StorageV2",
        "sku": {"name": "Standard_LRS", "tier": "Standard"},
        "tags": row.tags,
        "properties": {
            "provisioningState": "Succeeded",
            "holdfast": {
                "vaultId": vault,
                "container": view.host.friendly_name,
                "path": row.path,
            },
        },
    }


def _shown(request: ArmRequest, view: AccountView) -> Body:
    call = call_of(request)
    with call.platform.catalog.read() as connection:
        names = listing.group_names(connection, view.row.subscription_id, [view.row.group_key])
    vault = wire.vault_id(view.vault, group_name(call, view.vault))
    return _body(view, names.get(view.row.group_key, view.row.group_key), vault)


@get([IN_SUB, IN_GROUP], opt=needs_below(f"{KIND}/read"))
@threaded
def list_accounts(request: ArmRequest, sub: str, group: str | None = None) -> Body:
    """Folders of hosts that have a name, of a group or of the subscription."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    with call.platform.catalog.read() as connection:
        page = accounts.page_accounts(
            connection, owner, group=group, limit=PAGE_ROWS, token=call.skip_token
        )
        views = [view for row in page.rows if (view := view_account(connection, row))]
    rows = [_shown(request, view) for view in views]
    seen = [row for row in rows if call.principal.may_below(f"{KIND}/read", row["id"])]
    return listed(seen, call, page.next_token)


@get(ACCOUNT, opt=needs(f"{KIND}/read"))
@threaded
def get_account(request: ArmRequest, sub: str, group: str, account: str) -> Body:
    """One of them. NotFoundError (ResourceNotFound)."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    with call.platform.catalog.read() as connection:
        view = find_account(connection, owner, group, account)
    return _shown(request, view)


@put(ACCOUNT, opt=needs(f"{KIND}/write"))
@threaded
def put_one(
    request: ArmRequest, sub: str, group: str, account: str, data: dict[str, Any]
) -> Response[Body]:
    """Name a folder of a host of a vault (``properties.holdfast``: vaultId, container, path), to be
    restored into."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    ours = object_of(properties_of(data), "holdfast")
    vault = [part for part in text_of(ours, "vaultId").split("/") if part]
    known = len(vault) == 8 and "/".join(vault[5:7]).lower() == RS.lower()
    if not known or vault[1].lower() != owner:
        raise UsageError(
            "a storage account is a folder of a host: its vaultId is missing",
            code="InvalidStorageAccount",
            hint="holdfast storage-account create NAME --container HOST --path DIR",
        )
    row = vault_service.get_vault(call.platform, vault[3], vault[7])
    tags = {str(key): str(value) for key, value in object_of(data, "tags").items()}
    asked = AccountAsked(text_of(ours, "container"), text_of(ours, "path"), tags)
    view = put_account(call.platform, row, group, account, asked)
    new = view.row.created_at == view.row.updated_at
    return Response(_shown(request, view), status_code=201 if new else 200)


@delete(ACCOUNT, opt=needs(f"{KIND}/delete"), status_code=200)
@threaded
def delete_one(request: ArmRequest, sub: str, group: str, account: str) -> None:
    """Forget the name; the folder and what is in it stay."""
    call = call_of(request)
    check_subscription(call, sub)
    remove_account(call.platform, group, account)


ROUTES = [list_accounts, get_account, put_one, delete_one]
