"""Unregistering a machine."""

from __future__ import annotations

from holdfast.catalog import access, containers, items
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import ConflictError
from holdfast.services.items import find_container
from holdfast.services.platform import Platform


def unregister_container(platform: Platform, vault: VaultRow, name: str) -> ContainerRow:
    """Remove a machine and revoke its agent. ConflictError (ContainerHasProtectedItems)."""
    now = platform.now()
    with platform.catalog.write() as connection:
        row = find_container(connection, vault, name)
        held = items.count_items_on(connection, row.id)
        if held:
            raise ConflictError(
                f"{row.friendly_name} has {held} protected item(s)",
                code="ContainerHasProtectedItems",
                hint="delete their data first: holdfast item disable NAME --delete-data",
            )
        agent = containers.get_agent(connection, row.agent_id) if row.agent_id else None
        containers.revoke_agents_of(connection, row.id, now)
        if agent is not None:
            access.change_principal(connection, agent.client_id, disabled_at=now)
        containers.remove_container(connection, row.id)
        return row
