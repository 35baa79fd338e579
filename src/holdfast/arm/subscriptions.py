"""Subscriptions, tenants, locations, providers and resource groups."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, head, post, put

from holdfast.arm import wire
from holdfast.arm.actions import by_address
from holdfast.arm.guard import needs_below
from holdfast.arm.http import (
    PAGE_ROWS,
    ArmRequest,
    Body,
    Call,
    call_of,
    listed,
    object_of,
    text_of,
    threaded,
)
from holdfast.catalog import access, accounts, places, vaults
from holdfast.catalog.places import ResourceGroup
from holdfast.domain.names import check_group, is_same_location
from holdfast.errors import ConflictError, NotFoundError

SEE = "Microsoft.Resources/subscriptions/read"
READ = needs_below(SEE)
GROUP = "Microsoft.Resources/subscriptions/resourceGroups"
NAMESPACES = (
    "Microsoft.RecoveryServices",
    "Microsoft.Authorization",
    "Microsoft.AlertsManagement",
    "Microsoft.Compute",
    "Microsoft.Storage",
    "Holdfast.Backup",
)
SUB = "/subscriptions/{sub:str}"
GROUP_PATH = SUB + "/resourceGroups/{group:str}"


def check_subscription(call: Call, sub: str) -> str:
    """The installation's one subscription. NotFoundError (SubscriptionNotFound)."""
    if sub.lower() != call.platform.subscription_id:
        raise NotFoundError(
            f"The subscription '{sub}' could not be found.",
            code="SubscriptionNotFound",
            hint="log in again; GET /subscriptions names the one of this installation",
        )
    return call.platform.subscription_id


def _subscription(call: Call) -> Body:
    platform = call.platform
    return {
        "id": f"/subscriptions/{platform.subscription_id}",
        "subscriptionId": platform.subscription_id,
        "displayName": "Holdfast",
        "state": "Enabled",
        "tenantId": platform.tenant_id,
        "managedByTenants": [],
        "authorizationSource": "RoleBased",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "Holdfast",
            "spendingLimit": "Off",
        },
    }


@get("/subscriptions", opt={"action": None})
async def list_subscriptions(request: ArmRequest) -> Body:
    """The installation's subscription, for those who have a role in it."""
    call = call_of(request)
    row = _subscription(call)
    return {"value": [row] if call.principal.may_below(SEE, row["id"]) else []}


@get("/tenants", opt={"action": None})
async def list_tenants(request: ArmRequest) -> Body:
    """The installation is its one tenant."""
    tenant = call_of(request).platform.tenant_id
    row = {"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "Holdfast"}
    return {"value": [row]}


@get(SUB, opt=READ)
async def get_subscription(request: ArmRequest, sub: str) -> Body:
    """The installation's one subscription."""
    call = call_of(request)
    check_subscription(call, sub)
    return _subscription(call)


@get(SUB + "/locations", opt=READ)
@threaded
def list_locations(request: ArmRequest, sub: str) -> Body:
    """Regions are the locations."""
    call = call_of(request)
    base = f"/subscriptions/{check_subscription(call, sub)}/locations"
    with call.platform.catalog.read() as connection:
        rows = places.list_regions(connection)
    return {
        "value": [
            {
                "id": f"{base}/{row.name}",
                "name": row.name,
                "type": "Region",
                "displayName": row.name,
                "regionalDisplayName": row.name,
                "metadata": {"regionType": "Physical"},
            }
            for row in rows
        ]
    }


@get(
    # the fixed ones too: the router does not try a name where a fixed word fits
    [SUB + f"/providers/{name}" for name in NAMESPACES] + [SUB + "/providers/{namespace:str}"],
    opt=READ,
)
async def get_provider(request: ArmRequest, sub: str, namespace: str = "") -> Body:
    """Every provider served here is registered. NotFoundError (InvalidResourceNamespace)."""
    wanted = namespace or request.scope["path"].rpartition("/")[2]
    return _provider(check_subscription(call_of(request), sub), wanted)


@post(
    [f"{SUB}/providers/{name}/register" for name in NAMESPACES], opt=by_address(), status_code=200
)
async def register_provider(request: ArmRequest, sub: str) -> Body:
    """Nothing is left to do: scripts register what they use before they use it."""
    wanted = request.scope["path"].rstrip("/").split("/")[-2]
    return _provider(check_subscription(call_of(request), sub), wanted)


def _provider(owner: str, wanted: str) -> Body:
    known = {name.lower(): name for name in NAMESPACES}
    if wanted.lower() not in known:
        raise NotFoundError(
            f"The resource namespace '{wanted}' is invalid.",
            code="InvalidResourceNamespace",
            hint=f"served are {', '.join(NAMESPACES)}",
        )
    name = known[wanted.lower()]
    return {
        "id": f"/subscriptions/{owner}/providers/{name}",
        "namespace": name,
        "registrationPolicy": "RegistrationFree",
        "registrationState": "Registered",
        "resourceTypes": [],
    }


@get(SUB + "/resourceGroups", opt=needs_below(f"{GROUP}/read"))
@threaded
def list_groups(request: ArmRequest, sub: str) -> Body:
    """Resource groups, by name: those in which the caller has a role."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    with call.platform.catalog.read() as connection:
        page = places.page_groups(connection, owner, limit=PAGE_ROWS, token=call.skip_token)
    rows = [wire.group_body(row) for row in page.rows]
    seen = [body for body in rows if call.principal.may_below(f"{GROUP}/read", body["id"])]
    return listed(seen, call, page.next_token)


def find_group(call: Call, sub: str, group: str) -> ResourceGroup:
    with call.platform.catalog.read() as connection:
        row = places.get_group(connection, check_subscription(call, sub), group)
    if row is None:
        raise NotFoundError(
            f"Resource group '{group}' could not be found.",
            code="ResourceGroupNotFound",
            hint="list the resource groups, or create it",
        )
    return row


@get(GROUP_PATH, opt={"action": f"{GROUP}/read"})
@threaded
def get_group(request: ArmRequest, sub: str, group: str) -> Body:
    """One resource group."""
    return wire.group_body(find_group(call_of(request), sub, group))


@head(GROUP_PATH, opt={"action": f"{GROUP}/read"}, status_code=204)
@threaded
def head_group(request: ArmRequest, sub: str, group: str) -> None:
    """Whether a resource group exists."""
    find_group(call_of(request), sub, group)


@put(GROUP_PATH, opt={"action": f"{GROUP}/write"})
@threaded
def put_group(request: ArmRequest, sub: str, group: str, data: dict[str, Any]) -> Response[Body]:
    """Create a resource group, or change its tags. ConflictError (InvalidResourceGroupLocation)
    when it is in another location."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    check_group(group)
    location, tags = text_of(data, "location"), object_of(data, "tags")
    with call.platform.catalog.write() as connection:
        row = places.get_group(connection, owner, group)
        new = row is None
        if row is None:
            now = call.platform.now()
            row = ResourceGroup(owner, group.lower(), group, location or "local", tags, now)
            places.add_group(connection, row)
        elif location and not is_same_location(row.location, location):
            raise ConflictError(
                f"Invalid resource group location '{location[:100]}'. The Resource group already "
                f"exists in location '{row.location}'.",
                code="InvalidResourceGroupLocation",
                hint=f"give location {row.location}, or make a group of another name",
            )
        elif "tags" in data:
            places.change_group(connection, owner, group, tags=tags)
            row = places.get_group(connection, owner, group) or row
    return Response(wire.group_body(row), status_code=201 if new else 200)


@delete(GROUP_PATH, opt={"action": f"{GROUP}/delete"}, status_code=200)
@threaded
def delete_group(request: ArmRequest, sub: str, group: str) -> None:
    """Only an empty group goes."""
    call = call_of(request)
    row = find_group(call, sub, group)
    with call.platform.catalog.write() as connection:
        if vaults.page_vaults(connection, row.subscription_id, group, limit=1).rows:
            raise ConflictError(
                f"resource group {group} holds vaults",
                code="ResourceGroupNotEmpty",
                hint="delete its vaults first",
            )
        if accounts.accounts_in(connection, row.subscription_id, group):
            raise ConflictError(
                f"resource group {group} holds storage accounts",
                code="ResourceGroupNotEmpty",
                hint="remove them first: holdfast storage-account remove NAME",
            )
        access.remove_assignments_below(connection, wire.group_body(row)["id"])
        places.remove_group(connection, row.subscription_id, group)


ROUTES = [
    list_subscriptions,
    list_tenants,
    get_subscription,
    list_locations,
    get_provider,
    register_provider,
    list_groups,
    get_group,
    head_group,
    put_group,
    delete_group,
]
