"""Unregistering a machine.

A machine whose items are all deleted may go: it is kept as deleted itself as long as they are, and
an undeletion, or enrolling the machine again, makes it a registered one.
"""

from __future__ import annotations

from dataclasses import replace

from holdfast.catalog import access, containers, items
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import CONTAINER_SOFT_DELETED
from holdfast.errors import ConflictError
from holdfast.ports.jobs import JobSpec
from holdfast.services.holding import hold_vault
from holdfast.services.items import find_container
from holdfast.services.machines import leave_machines
from holdfast.services.platform import Platform

HAS_ITEMS = "BMSUserErrorContainerHasDatasources"


def unregister_container(
    platform: Platform, vault: VaultRow, name: str, by: str = ""
) -> ContainerRow:
    """Remove a machine and revoke its agent. ConflictError (BMSUserErrorContainerHasDatasources)
    while it has items whose data is not deleted."""
    now = platform.now()
    with platform.catalog.write() as connection:
        hold_vault(connection, vault)
        row = find_container(connection, vault, name)
        held = items.count_live_items(connection, vault.id, row.id)
        if held:
            raise ConflictError(
                f"{row.friendly_name} has {held} protected item(s)",
                code=HAS_ITEMS,
                hint="delete their data first: holdfast item disable NAME --delete-data",
            )
        agent = containers.get_agent(connection, row.agent_id) if row.agent_id else None
        containers.revoke_agents_of(connection, row.id, now)
        leave_machines(connection, vault.id, row.id)
        if agent is not None:
            access.change_principal(connection, agent.client_id, disabled_at=now)
        if items.count_items_on(connection, row.id):
            containers.change_container(
                connection, row.id, registration_status=CONTAINER_SOFT_DELETED, updated_at=now
            )
        else:
            containers.remove_container(connection, row.id)
        spec = JobSpec("unregister", vault.id, row.friendly_name, container_id=row.id)
        platform.jobs.record(connection, replace(spec, created_by=by), {})
        return row
