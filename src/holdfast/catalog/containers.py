"""Containers (registered machines) and the agents that speak for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update
from holdfast.domain.lifecycle import CONTAINER_SOFT_DELETED
from holdfast.domain.names import CONTAINERS


@dataclass(frozen=True, slots=True)
class ContainerRow:
    """``name`` is the ARM name, such as ``Linux;web1``. ``agent_id``: who speaks for it now."""

    id: str
    vault_id: str
    name_key: str
    name: str
    friendly_name: str
    management_type: str
    platform: str
    registration_status: str
    agent_id: str | None
    properties: dict[str, Any]
    registered_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An enrolled agent. ``public_key`` is PEM; a revoked agent is refused everywhere."""

    id: str
    vault_id: str
    container_id: str
    client_id: str
    host: str
    platform: str
    version: str
    public_key: str
    properties: dict[str, Any]
    enrolled_at: datetime
    last_seen_at: datetime
    revoked_at: datetime | None


_C = t.containers.c
_ALL = selecting(t.containers, ContainerRow)
_AGENTS = selecting(t.agents, AgentRow)


def add_container(connection: Connection, row: ContainerRow) -> None:
    insert(connection, t.containers, row)


def get_container(connection: Connection, container_id: str) -> ContainerRow | None:
    return one(connection, ContainerRow, _ALL.where(_C.id == container_id))


def find_container(connection: Connection, vault_id: str, name: str) -> ContainerRow | None:
    """By full name in any case."""
    query = _ALL.where(_C.vault_id == vault_id, _C.name_key == name.lower())
    return one(connection, ContainerRow, query)


def containers_named(
    connection: Connection, vault_id: str, names: Iterable[str]
) -> dict[str, ContainerRow]:
    """Lower-case full name to container, of those there are."""
    keys = sorted({name.lower() for name in names})
    query = _ALL.where(_C.vault_id == vault_id, _C.name_key.in_(keys))
    return {row.name_key: row for row in many(connection, ContainerRow, query)} if keys else {}


def page_containers(
    connection: Connection,
    vault_id: str,
    *,
    host: str = "",
    deleted: bool | None = None,
    management_type: str | None = None,
    limit: int = 100,
    token: str = "",
) -> Page[ContainerRow]:
    """By name; with ``host`` those of one machine's name, in any case. ``deleted``: only those that
    are deleted, or only the others."""
    query = _ALL.where(_C.vault_id == vault_id)
    if management_type is not None:
        query = query.where(_C.management_type == management_type)
    if host and management_type not in (None, "MAB"):
        query = query.where(func.lower(_C.friendly_name) == host.lower())
    elif host:
        query = query.where(_C.name_key.in_([f"{kind};{host}".lower() for kind in CONTAINERS]))
    if deleted is not None:
        gone = _C.registration_status == CONTAINER_SOFT_DELETED
        query = query.where(gone if deleted else ~gone)
    return page(connection, ContainerRow, query, keys=[_C.name_key], limit=limit, token=token)


def friendly_names(connection: Connection, vault_id: str) -> dict[str, str]:
    """What a vault's machines are called, by id."""
    query = select(_C.id, _C.friendly_name).where(_C.vault_id == vault_id)
    return {str(row.id): str(row.friendly_name) for row in connection.execute(query)}


def count_registered(connection: Connection, vault_id: str, management_type: str = "MAB") -> int:
    """Containers of a kind that are registered in a vault; of MAB: machines with an agent."""
    query = select(func.count()).select_from(t.containers)
    query = query.where(_C.management_type == management_type)
    query = query.where(_C.vault_id == vault_id, _C.registration_status == "Registered")
    return int(connection.execute(query).scalar_one())


def change_container(connection: Connection, container_id: str, **values: Any) -> int:
    return update(connection, t.containers, values, _C.id == container_id)


def remove_container(connection: Connection, container_id: str) -> int:
    """Delete the container with its agents, what it reported of virtual machines and the folders
    named on it; items must be gone (ConflictError otherwise)."""
    for table in (t.agents, t.machine_reports, t.storage_accounts):
        remove(connection, table, table.c.container_id == container_id)
    return remove(connection, t.containers, _C.id == container_id)


def add_agent(connection: Connection, row: AgentRow) -> None:
    insert(connection, t.agents, row)


def get_agent(connection: Connection, agent_id: str) -> AgentRow | None:
    return one(connection, AgentRow, _AGENTS.where(t.agents.c.id == agent_id))


def find_agent_by_client(connection: Connection, client_id: str) -> AgentRow | None:
    return one(connection, AgentRow, _AGENTS.where(t.agents.c.client_id == client_id))


def agents_of_vault(connection: Connection, vault_id: str) -> list[AgentRow]:
    """Agents not revoked, by host."""
    agents = t.agents.c
    query = _AGENTS.where(agents.vault_id == vault_id, agents.revoked_at.is_(None))
    return many(connection, AgentRow, query.order_by(agents.host, agents.id))


def list_agents(connection: Connection) -> list[AgentRow]:
    """Agents not revoked, of all vaults."""
    query = _AGENTS.where(t.agents.c.revoked_at.is_(None)).order_by(t.agents.c.id)
    return many(connection, AgentRow, query)


def change_agent(connection: Connection, agent_id: str, **values: Any) -> int:
    return update(connection, t.agents, values, t.agents.c.id == agent_id)


def active_agents_of(connection: Connection, container_id: str) -> list[AgentRow]:
    """Agents of a container not revoked; one at most, unless a replacement was cut off."""
    agents = t.agents.c
    query = _AGENTS.where(agents.container_id == container_id, agents.revoked_at.is_(None))
    return many(connection, AgentRow, query.order_by(agents.enrolled_at, agents.id))


def revoke_agents_of(connection: Connection, container_id: str, now: datetime) -> list[str]:
    """Revoke every agent of a container; the ids revoked now."""
    agents = t.agents.c
    where = (agents.container_id == container_id, agents.revoked_at.is_(None))
    found = [row.id for row in many(connection, AgentRow, _AGENTS.where(*where))]
    update(connection, t.agents, {"revoked_at": now}, *where)
    return found
