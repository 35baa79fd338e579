"""What ARM asks of a resource provider beside its resources: its operations, free names, and
resources of other providers that are not here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litestar import Litestar, Response, get, post

from holdfast.arm.actions import action_of
from holdfast.arm.guard import needs, needs_on_installation
from holdfast.arm.http import ArmRequest, Body, call_of, text_of, threaded
from holdfast.arm.subscriptions import GROUP_PATH, check_subscription
from holdfast.catalog import vaults
from holdfast.domain.names import check_vault
from holdfast.errors import NotFoundError, UsageError

PROVIDER = "Microsoft.RecoveryServices"
LOCATION = f"/providers/{PROVIDER}/locations/{{location:str}}"
ACTIONS = f"{PROVIDER}/locations"
# what scripts for machines in Azure look up before they ask for a backup of it
ELSEWHERE = (
    "Microsoft.ClassicStorage/storageAccounts",
    "Microsoft.Network/virtualNetworks",
)


def _actions(app: Litestar) -> Iterator[tuple[str, str]]:
    """Each action and what it is, by the first line of a route that asks for it."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            doc = (handler.fn.__doc__ or "").split("\n", 1)[0]
            for method in handler.http_methods:
                action = action_of(handler.opt, str(method), route.path_format) or ""
                if action.startswith(f"{PROVIDER}/"):
                    yield action, doc


@get(
    f"/providers/{PROVIDER}/operations",
    opt=needs_on_installation(f"{PROVIDER}/operations/read"),
)
async def list_operations(request: ArmRequest) -> Body:
    """The actions of this provider, as role definitions name them."""
    rows = []
    for action, doc in sorted(dict(_actions(request.app)).items()):
        kind, _, verb = action.removeprefix(f"{PROVIDER}/").rpartition("/")
        display = {"provider": PROVIDER, "resource": kind, "operation": verb, "description": doc}
        rows.append({"name": action, "display": display, "origin": "user"})
    return {"value": rows}


def _free(name_available: bool, reason: str | None = None, message: str | None = None) -> Body:
    return {"nameAvailable": name_available, "reason": reason, "message": message}


@post(
    GROUP_PATH + LOCATION + "/checkNameAvailability",
    opt=needs(f"{ACTIONS}/checkNameAvailability/action"),
    status_code=200,
)
@threaded
def check_name(
    request: ArmRequest, sub: str, group: str, location: str, data: dict[str, Any]
) -> Body:
    """Whether a vault may be given a name in this resource group."""
    call, name = call_of(request), text_of(data, "name")
    owner = check_subscription(call, sub)
    try:
        check_vault(name)
    except UsageError as error:
        return _free(False, "Invalid", f"{error.message}: {error.hint}")
    with call.platform.catalog.read() as connection:
        taken = vaults.find_vault(connection, owner, group, name) is not None
    return _free(False, "AlreadyExists", f"there is a vault {name}") if taken else _free(True)


@get(
    [GROUP_PATH + f"/providers/{kind}/{{name:str}}" for kind in ELSEWHERE],
    opt=needs("Microsoft.Resources/subscriptions/resourceGroups/read"),
)
async def get_elsewhere(request: ArmRequest, sub: str, group: str, name: str) -> Response[Body]:
    """Resources of other providers are not here. NotFoundError (ResourceNotFound)."""
    check_subscription(call_of(request), sub)
    kind = request.scope["path"].rpartition("/providers/")[2].rpartition("/")[0]
    raise NotFoundError(
        f"The Resource '{kind}/{name}' under resource group '{group}' was not found.",
        hint="holdfast vm list and holdfast storage-account list show what there is",
    )


ROUTES = [list_operations, check_name, get_elsewhere]
