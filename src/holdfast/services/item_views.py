"""Items with what belongs to them, for showing: one, or a page of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from holdfast.catalog import listing
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.domain.lifecycle import backups_run
from holdfast.domain.overdue import misses, owed_slot
from holdfast.domain.policy import Policy, parse_policy
from holdfast.errors import NotFoundError
from holdfast.services.platform import Platform


@dataclass(frozen=True, slots=True)
class ItemView:
    """An item with what belongs to it, for showing. ``parsed``: its policy, read once."""

    item: ItemRow
    container: ContainerRow
    policy: PolicyRow | None
    overdue: bool
    points: int
    oldest: datetime | None
    now: datetime
    parsed: Policy | None


def view_item(platform: Platform, connection: Connection, row: ItemRow) -> ItemView:
    """An item with its container, policy and health. NotFoundError (ContainerNotFound)."""
    found = view_items(platform, connection, [row])
    if not found:
        raise NotFoundError(
            "the item's container is gone",
            code="ContainerNotFound",
            hint="the item was deleted meanwhile; list the items again",
        )
    return found[0]


def view_items(
    platform: Platform, connection: Connection, rows: Sequence[ItemRow]
) -> list[ItemView]:
    """The same for many, by a few statements; items whose container is gone are left out."""
    holders = listing.containers_by_id(connection, (row.container_id for row in rows))
    known = listing.policies_by_id(connection, (row.policy_id for row in rows))
    parsed = {key: parse_policy(policy.properties) for key, policy in known.items()}
    counted = listing.points_by_item(connection, (row.id for row in rows))
    now = platform.now()
    owed = {key: owed_slot(policy, now) for key, policy in parsed.items()}
    views = []
    for row in rows:
        if row.container_id not in holders:
            continue
        policy, of = row.policy_id or "", counted.get(row.id, listing.NO_POINTS)
        views.append(
            ItemView(
                row,
                holders[row.container_id],
                known.get(policy),
                backups_run(row.protection_state)
                and misses(owed.get(policy), row.latest_point_at, row.due_since),
                of.count,
                of.oldest,
                now,
                parsed.get(policy),
            )
        )
    return views
