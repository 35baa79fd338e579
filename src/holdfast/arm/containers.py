"""Containers: machines that enrolled in a vault, and its protected virtual machines."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, post, put

from holdfast.arm import wire
from holdfast.arm.actions import by_address
from holdfast.arm.filters import kind_asked, parse_filter
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    PAGE_ROWS,
    Answering,
    ArmRequest,
    Body,
    accepted,
    listed,
    threaded,
)
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog import containers, items, listing
from holdfast.catalog.containers import ContainerRow
from holdfast.errors import UsageError
from holdfast.services.containers import unregister_container
from holdfast.services.items import find_container

KIND = f"{RS}/backupFabrics/protectionContainers"
CONTAINER = VAULT + "/backupFabrics/{fabric:str}/protectionContainers/{container:str}"
READ = by_address()


def _container(found: VaultCall, row: ContainerRow) -> Body:
    with found.call.platform.catalog.read() as connection:
        agent = containers.get_agent(connection, row.agent_id) if row.agent_id else None
        count = items.count_items_on(connection, row.id)
    return wire.container_body(row, found.id, agent, count)


@get(VAULT + "/backupProtectionContainers", opt=READ)
@threaded
def list_containers(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Registered machines, and protected virtual machines; ``$filter``: backupManagementType,
    friendlyName."""
    return _listed(request, (sub, group, vault), deleted=False)


@get(VAULT + "/backupDeletedProtectionContainers", opt=READ)
@threaded
def list_deleted(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Unregistered machines whose deleted items are kept for a while; ``$filter`` as above."""
    return _listed(request, (sub, group, vault), deleted=True)


def _listed(request: ArmRequest, names: tuple[str, str, str], *, deleted: bool) -> Body:
    sub, group, vault = names
    found = vault_call(request, sub, group, vault)
    wanted = parse_filter(found.call.query("$filter"))
    try:
        kind = kind_asked(wanted)
    except LookupError:
        return {"value": []}
    with found.call.platform.catalog.read() as connection:
        page = containers.page_containers(
            connection,
            found.row.id,
            host=wanted.get("friendlyname", ""),
            deleted=deleted,
            management_type=kind[0] if kind else None,
            limit=PAGE_ROWS,
            token=found.call.skip_token,
        )
        agents = listing.agents_by_id(connection, (row.agent_id for row in page.rows))
        counts = listing.items_on(connection, (row.id for row in page.rows))
    rows = [
        wire.container_body(row, found.id, agents.get(row.agent_id or ""), counts.get(row.id, 0))
        for row in page.rows
    ]
    return listed(rows, found.call, page.next_token)


@get(CONTAINER, opt=READ)
@threaded
def get_container(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str
) -> Body:
    """One registered machine."""
    found = vault_call(request, sub, group, vault)
    with found.call.platform.catalog.read() as connection:
        row = find_container(connection, found.row, container)
    return _container(found, row)


@delete(CONTAINER, opt=needs(f"{KIND}/delete"), status_code=202)
@threaded
def unregister(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str
) -> Response[None]:
    """Remove a machine that protects nothing, and revoke its agent."""
    found = vault_call(request, sub, group, vault)
    row = unregister_container(found.call.platform, found.row, container, found.call.principal.name)
    holder = Answering(wire.container_id(found.id, row.name))
    return accepted(found.call, found.id, "UnRegister", None, holder)


@delete(VAULT + "/registeredIdentities/{name:str}", opt=by_address(), status_code=204)
@threaded
def unregister_identity(request: ArmRequest, sub: str, group: str, vault: str, name: str) -> None:
    """The same, by the machine's name, as clients of Azure's file agent ask for it."""
    found = vault_call(request, sub, group, vault)
    unregister_container(found.call.platform, found.row, name, found.call.principal.name)


@put(CONTAINER, opt=needs(f"{KIND}/write"))
@threaded
def register(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    data: dict[str, Any],
) -> Body:
    """Refused: machines register themselves. UsageError (UserErrorNotSupported)."""
    vault_call(request, sub, group, vault)
    raise UsageError(
        f"{container} cannot be registered from here: machines register themselves",
        code="UserErrorNotSupported",
        hint="enrol the machine where it stands: holdfast agent enroll",
    )


@post(CONTAINER + "/inquire", opt=needs(f"{KIND}/inquire/action"), status_code=202)
@threaded
def inquire(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str
) -> Response[None]:
    """Over at once: folders need no discovery."""
    found = vault_call(request, sub, group, vault)
    with found.call.platform.catalog.read() as connection:
        row = find_container(connection, found.row, container)
    holder = Answering(wire.container_id(found.id, row.name))
    return accepted(found.call, found.id, "Inquire", None, holder)


@get(CONTAINER + "/items", opt=READ)
@threaded
def list_workload_items(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str, container: str
) -> Body:
    """None: only database machines have workload items."""
    found = vault_call(request, sub, group, vault)
    with found.call.platform.catalog.read() as connection:
        find_container(connection, found.row, container)
    return {"value": []}


ROUTES = [
    list_containers,
    list_deleted,
    get_container,
    unregister,
    unregister_identity,
    register,
    inquire,
    list_workload_items,
]
