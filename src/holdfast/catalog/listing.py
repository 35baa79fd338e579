"""What belongs to the rows of a page, for all of them at once: a page costs a few statements,
whatever it shows and however many rows there are beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Column, Connection, Table, func, select

from holdfast.catalog import tables as t
from holdfast.catalog.containers import AgentRow, ContainerRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.rows import many, selecting
from holdfast.catalog.vaults import VaultRow

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class PointsOf:
    """Recovery points of an item: how many, and the first one's time."""

    count: int
    oldest: datetime | None


NO_POINTS = PointsOf(0, None)


def _by_id(
    connection: Connection, table: Table, kind: type[Row], ids: Iterable[str | None]
) -> dict[str, Row]:
    wanted = sorted({one for one in ids if one})
    if not wanted:
        return {}
    rows = many(connection, kind, selecting(table, kind).where(table.c.id.in_(wanted)))
    return {getattr(row, "id"): row for row in rows}  # noqa: B009 - every table has it


def containers_by_id(connection: Connection, ids: Iterable[str | None]) -> dict[str, ContainerRow]:
    return _by_id(connection, t.containers, ContainerRow, ids)


def agents_by_id(connection: Connection, ids: Iterable[str | None]) -> dict[str, AgentRow]:
    return _by_id(connection, t.agents, AgentRow, ids)


def policies_by_id(connection: Connection, ids: Iterable[str | None]) -> dict[str, PolicyRow]:
    return _by_id(connection, t.policies, PolicyRow, ids)


def vaults_by_id(connection: Connection, ids: Iterable[str | None]) -> dict[str, VaultRow]:
    return _by_id(connection, t.vaults, VaultRow, ids)


def machine_names(connection: Connection, ids: Iterable[str | None]) -> dict[str, str]:
    """Id of a container to what its machine is called; of those that are there."""
    wanted = sorted({one for one in ids if one})
    if not wanted:
        return {}
    holders = t.containers.c
    query = select(holders.id, holders.friendly_name).where(holders.id.in_(wanted))
    return {str(key): str(name) for key, name in connection.execute(query)}


def group_names(connection: Connection, subscription: str, keys: Iterable[str]) -> dict[str, str]:
    """Key of a resource group to its name as it was given first."""
    groups = t.resource_groups.c
    query = select(groups.name_key, groups.name).where(
        groups.subscription_id == subscription, groups.name_key.in_(sorted(set(keys)))
    )
    return {str(key): str(name) for key, name in connection.execute(query)}


def items_on(connection: Connection, ids: Iterable[str]) -> dict[str, int]:
    """Number of items by container, of those that have any."""
    return _item_counts(connection, t.items.c.container_id, ids)


def items_under(connection: Connection, ids: Iterable[str]) -> dict[str, int]:
    """Number of items by policy, of those that have any."""
    return _item_counts(connection, t.items.c.policy_id, ids)


def _item_counts(connection: Connection, column: Column[str], ids: Iterable[str]) -> dict[str, int]:
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    query = select(column, func.count()).where(column.in_(wanted)).group_by(column)
    return {key: int(count) for key, count in connection.execute(query)}


def points_by_item(connection: Connection, ids: Iterable[str]) -> dict[str, PointsOf]:
    """Of items that have any. Ids of points sort by time."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    points = t.recovery_points.c
    counted = (
        select(points.item_id, func.count().label("number"), func.min(points.rp_id).label("first"))
        .where(points.item_id.in_(wanted))
        .group_by(points.item_id)
        .subquery()
    )
    query = select(counted.c.item_id, counted.c.number, points.time).join(
        t.recovery_points,
        (points.item_id == counted.c.item_id) & (points.rp_id == counted.c.first),
    )
    return {
        item: PointsOf(int(number), oldest) for item, number, oldest in connection.execute(query)
    }
