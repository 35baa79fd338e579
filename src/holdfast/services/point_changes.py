"""How another policy, or another state, would change what is kept of an item."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import points, policies
from holdfast.catalog.items import ItemRow
from holdfast.catalog.points import PointRow
from holdfast.domain.policy import parse_policy
from holdfast.domain.policy_change import (
    KEEPS_ALL,
    ChangeCounts,
    PointChange,
    Regime,
    compare,
)
from holdfast.domain.retention import PointFacts


def point_facts(row: PointRow) -> PointFacts:
    """What retention needs to know of a point."""
    return PointFacts(row.rp_id, row.time, frozenset(row.tags), row.retain_until, not row.scheduled)


def regime_of(connection: Connection, item: ItemRow) -> Regime:
    """What decides about the item's points now."""
    policy = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    if policy is None:
        return KEEPS_ALL
    return Regime(parse_policy(policy.properties).rules, item.protection_state)


def changes_of(
    connection: Connection, item: ItemRow, new: Regime, now: datetime
) -> list[PointChange]:
    """Every recovery point of the item, newest first."""
    facts = [point_facts(row) for row in points.points_of_item(connection, item.id)]
    return compare(facts, regime_of(connection, item), new, now)


def changes_body(counts: ChangeCounts) -> dict[str, Any]:
    """How many recovery points a change of policy touches."""
    return {
        "recoveryPoints": counts.total,
        "affected": counts.affected,
        "expire": counts.expires,
        "endSooner": counts.shorter,
        "endLater": counts.longer,
        "dueAnyway": counts.due,
    }
