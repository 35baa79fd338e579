"""What a policy would do before it does it: previews of drafts, plans of changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holdfast.catalog import containers, items, points, policies
from holdfast.catalog.items import ItemRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import STOPPED, resumed_state
from holdfast.domain.policy import check_for_files, parse_policy
from holdfast.domain.policy_change import ChangeCounts, PointChange, Regime, count_changes
from holdfast.domain.retention import Decision, plan_retention
from holdfast.services.items import find_item
from holdfast.services.platform import Platform
from holdfast.services.point_changes import changes_of, point_facts
from holdfast.services.policies import find_policy

Body = dict[str, Any]
MOST_SHOWN = 5000
ORDER = ("expires", "due", "shorter", "longer")


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One recovery point that a change touches."""

    container: str
    item: ItemRow
    change: PointChange


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """Counts of all points, and the touched ones: those that expire first, 5000 at most."""

    counts: ChangeCounts
    touched: list[PlannedChange]


def preview_policy(
    platform: Platform, vault: VaultRow, properties: Body, name: str = ""
) -> list[tuple[ItemRow, Decision]]:
    """What a draft would keep and drop of the real recovery points: of the items of the policy
    called ``name``, or of all items."""
    draft = check_for_files(parse_policy(properties))
    now = platform.now()
    rows: list[tuple[ItemRow, Decision]] = []
    with platform.catalog.read() as connection:
        existing = policies.find_policy(connection, vault.id, name) if name else None
        chosen = items.items_of_policy(connection, existing.id) if existing else []
        for item in chosen or items.items_of_vault(connection, vault.id):
            facts = [point_facts(row) for row in points.points_of_item(connection, item.id)]
            plan = plan_retention(facts, draft.rules, item.protection_state, now)
            rows += [(item, decision) for decision in plan.decisions]
    return rows


def plan_edit(platform: Platform, vault: VaultRow, name: str, properties: Body) -> ChangePlan:
    """What changing the policy ``name`` to ``properties`` does to the points of its items."""
    draft = parse_policy(properties)
    found: list[PlannedChange] = []
    with platform.catalog.read() as connection:
        row = find_policy(connection, vault, name)
        used = items.items_of_policy(connection, row.id)
        if used:
            check_for_files(draft)
        for item in used:
            holder = containers.get_container(connection, item.container_id)
            regime = Regime(draft.rules, item.protection_state)
            found += [
                PlannedChange(holder.friendly_name if holder else "", item, change)
                for change in changes_of(connection, item, regime, platform.now())
            ]
    return _plan(found)


def plan_switch(
    platform: Platform, vault: VaultRow, container: str, name: str, policy: str
) -> ChangePlan:
    """What giving an item the policy called ``policy`` does to its points."""
    with platform.catalog.read() as connection:
        holder, item = find_item(connection, vault, container, name)
        draft = check_for_files(parse_policy(find_policy(connection, vault, policy).properties))
        state = item.protection_state
        if state in STOPPED:
            state = resumed_state(bool(item.latest_point_id))
        changes = changes_of(connection, item, Regime(draft.rules, state), platform.now())
    return _plan([PlannedChange(holder.friendly_name, item, change) for change in changes])


def _plan(found: list[PlannedChange]) -> ChangePlan:
    touched = [row for row in found if row.change.effect != "unchanged"]
    touched.sort(key=lambda row: ORDER.index(row.change.effect))
    return ChangePlan(count_changes(row.change for row in found), touched[:MOST_SHOWN])
