"""What could be protected, and whether something is: discovery as Azure's clients ask for it."""

from __future__ import annotations

import re
from typing import Any

from litestar import Response, get, post

from holdfast.arm.actions import by_address
from holdfast.arm.filters import parse_filter
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    PAGE_ROWS,
    Answering,
    ArmRequest,
    Body,
    accepted,
    call_of,
    listed,
    text_of,
    threaded,
)
from holdfast.arm.machine_bodies import COMPUTE, protectable_body
from holdfast.arm.provider import ACTIONS, LOCATION
from holdfast.arm.subscriptions import SUB, check_subscription
from holdfast.arm.vaults import RS, VAULT, group_name, vault_call
from holdfast.arm.wire import vault_id
from holdfast.catalog import machines, policies
from holdfast.domain.virtual_machines import MANAGEMENT, WORKLOAD, claim_error
from holdfast.errors import NotFoundError, UsageError
from holdfast.services.machines import (
    MachineView,
    ask_for_inventory,
    find_machine,
    view_machines,
)

FABRIC = VAULT + "/backupFabrics/{fabric:str}"
STATUS = SUB + LOCATION + "/backupStatus"
PREVALIDATE = SUB + LOCATION + "/backupPreValidateProtection"
RESOURCE = re.compile(
    r"/?subscriptions/[^/]+/resourceGroups/[^/]+/providers/[^/]+(/[^/]+/[^/]+)+/?", re.IGNORECASE
)
FEATURES = SUB + LOCATION + "/backupValidateFeatures"


@get(VAULT + "/backupProtectableItems", opt=by_address())
@threaded
def list_protectable(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Virtual machines that hosts of the vault report and that are not protected; ``$filter``:
    backupManagementType."""
    found = vault_call(request, sub, group, vault)
    call, wanted = found.call, parse_filter(found.call.query("$filter"))
    others = {
        wanted.get("backupmanagementtype", MANAGEMENT).lower() != MANAGEMENT.lower(),
        wanted.get("workloadtype", WORKLOAD).lower() != WORKLOAD.lower(),
    }
    if any(others):
        return {"value": []}
    with call.platform.catalog.read() as connection:
        page = machines.page_machines(
            connection,
            found.row.subscription_id,
            vault_id=found.row.id,
            limit=PAGE_ROWS,
            token=call.skip_token,
        )
        views = view_machines(connection, page.rows)
    shown = group_name(call, found.row)
    free = [view for view in views if view.item is None and view.reports]
    rows = [protectable_body(view, found.id, shown) for view in free]
    return listed(rows, call, page.next_token)


@post(
    FABRIC + "/refreshContainers",
    opt=needs(f"{RS}/backupFabrics/refreshContainers/action"),
    status_code=202,
)
@threaded
def refresh_containers(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str
) -> Response[None]:
    """Have the vault's hosts report their virtual machines anew, which they do by themselves every
    minute; the operation is over at once."""
    found = vault_call(request, sub, group, vault)
    asked = ask_for_inventory(found.call.platform, found.row)
    for agent_id in asked if request.app.state.agents else ():
        request.app.state.agents.bell.ring(agent_id)
    answering = Answering(f"{found.id}/backupFabrics/Azure")
    return accepted(found.call, found.id, "RefreshContainers", None, answering)


def _resource(request: ArmRequest, sub: str, data: Body) -> MachineView | None:
    """The virtual machine a body names by ``resourceId``; None for a resource of another kind, or
    none. UsageError (InvalidRequestContent)."""
    call = call_of(request)
    owner = check_subscription(call, sub)
    resource = text_of(data, "resourceId")
    if not RESOURCE.fullmatch(resource):
        raise UsageError(
            f"resourceId {resource[:100]!r} is no id of a resource",
            code="InvalidRequestContent",
            hint="send /subscriptions/ID/resourceGroups/GROUP/providers/NAMESPACE/TYPE/NAME",
        )
    parts = [part for part in resource.split("/") if part]
    kind = "/".join(parts[5:7]).lower()
    if len(parts) != 8 or kind != COMPUTE.lower() or parts[1].lower() != owner:
        return None
    try:
        with call.platform.catalog.read() as connection:
            return find_machine(connection, owner, parts[3], parts[7])
    except NotFoundError:
        return None


@post(STATUS, opt=needs(f"{ACTIONS}/backupStatus/action"), status_code=200)
@threaded
def backup_status(request: ArmRequest, sub: str, location: str, data: dict[str, Any]) -> Body:
    """Whether a virtual machine is protected, and where; folders have no resource id."""
    view = _resource(request, sub, data)
    if view is None or view.item is None or view.item.deleted_at is not None:
        return {"protectionStatus": "NotProtected"}
    call, item = call_of(request), view.item
    with call.platform.catalog.read() as connection:
        policy = policies.get_policy(connection, item.policy_id or "")
    holder = item.item_key.partition("/")[0]
    return {
        "protectionStatus": "Protected",
        "vaultId": vault_id(view.vault, group_name(call, view.vault)),
        "fabricName": "Azure",
        "containerName": holder,
        "protectedItemName": item.name,
        "policyName": policy.name if policy else "",
        "registrationStatus": "Registered",
    }


@post(PREVALIDATE, opt=needs(f"{ACTIONS}/backupPreValidateProtection/action"), status_code=200)
@threaded
def prevalidate(request: ArmRequest, sub: str, location: str, data: dict[str, Any]) -> Body:
    """Whether protecting a virtual machine would be accepted, and if not why."""
    view = _resource(request, sub, data)
    if view is None:
        refused = claim_error("Missing", text_of(data, "resourceId").rpartition("/")[2], ())
        return _refused(refused.code, refused.message, refused.hint)
    if view.claim != "Present":
        told = claim_error(view.claim, view.row.name, view.host_names)
        return _refused(told.code, told.message, told.hint)
    if view.item is not None:
        text = f"virtual machine {view.row.name} is protected already"
        return _refused("UserErrorVmAlreadyProtected", text, "see: holdfast vm show NAME")
    return {"status": "Succeeded", "errorCode": None, "errorMessage": None, "recommendation": None}


def _refused(code: str, message: str, hint: str) -> Body:
    return {
        "status": "Failed",
        "errorCode": code,
        "errorMessage": message,
        "recommendation": hint,
    }


@post(FEATURES, opt=needs(f"{ACTIONS}/backupValidateFeatures/action"), status_code=200)
@threaded
def validate_features(request: ArmRequest, sub: str, location: str, data: dict[str, Any]) -> Body:
    """Machines of every size can be backed up; other features of Azure's are not here."""
    check_subscription(call_of(request), sub)
    kind = text_of(data, "featureType")
    if not kind:
        raise UsageError(
            "featureType is missing",
            code="InvalidRequestContent",
            hint="name a feature, such as AzureVMResourceBackup",
        )
    served = kind.lower() == "azurevmresourcebackup"
    return {"supportStatus": "Supported" if served else "NotSupported"}


ROUTES = [list_protectable, refresh_containers, backup_status, prevalidate, validate_features]
