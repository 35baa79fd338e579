"""What a policy would do before it does it: previews of drafts, plans of changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from holdfast.catalog import containers, items, points, policies, vaults
from holdfast.catalog.items import ItemRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import STOPPED, resumed_state
from holdfast.domain.policy import FILES_TYPES, check_for_files, check_tiering, parse_policy
from holdfast.domain.policy_change import ChangeCounts, PointChange, Regime, count_changes
from holdfast.domain.retention import Decision, plan_retention
from holdfast.domain.upcoming import Upcoming, upcoming
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import ConflictError
from holdfast.services.immutable import check_edit, check_switch, refusal
from holdfast.services.items import check_fits, check_machine_moves, find_item
from holdfast.services.platform import Platform
from holdfast.services.point_changes import changes_of, point_facts
from holdfast.services.policies import check_users, find_policy

Body = dict[str, Any]
MOST_SHOWN = 5000
MOST_UPCOMING = 3
ORDER = ("expires", "due", "shorter", "longer")


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One recovery point that a change touches."""

    container: str
    item: ItemRow
    change: PointChange


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """Counts of all points, and the touched ones: those that expire first, 5000 at most.
    ``refused``: why the change would not be made."""

    counts: ChangeCounts
    touched: list[PlannedChange]
    refused: ConflictError | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a draft does to ``total`` recovery points: ``rows`` of them, of many those that go first
    and 5000 at most; and when its backups are due."""

    total: int
    dropped: int
    rows: list[tuple[ItemRow, Decision]]
    upcoming: list[Upcoming]


def preview_policy(
    platform: Platform, vault: VaultRow, properties: Body, name: str = ""
) -> Preview:
    """What a draft would keep and drop of the real recovery points: of the items of the policy
    called ``name``, or of all items that it can protect."""
    draft = parse_policy(properties)
    check_tiering(draft.properties)
    now = platform.now()
    total, goes = 0, 0
    rows: list[tuple[ItemRow, Decision]] = []
    more: list[tuple[ItemRow, Decision]] = []  # that go, when there are too many for all
    with platform.catalog.read() as connection:
        existing = policies.find_policy(connection, vault.id, name) if name else None
        chosen = items.items_of_policy(connection, existing.id) if existing else []
        if chosen:
            check_for_files(draft)
        elif draft.kind in FILES_TYPES:
            chosen = items.items_of_vault(connection, vault.id)
        for item in chosen:
            facts = [point_facts(row) for row in points.points_of_item(connection, item.id)]
            plan = plan_retention(facts, draft.rules, item.protection_state, now)
            total, goes = total + len(plan.decisions), goes + len(plan.dropped)
            free = MOST_SHOWN - len(rows)
            rows += [(item, decision) for decision in plan.decisions[:free]]
            left_out = [(item, one) for one in plan.decisions[free:] if not one.keep]
            more += left_out[: MOST_SHOWN - len(more)]
    if total > MOST_SHOWN:
        rows = sorted([*more, *rows], key=lambda row: row[1].keep)[:MOST_SHOWN]
    return Preview(total, goes, rows, upcoming(draft, now, MOST_UPCOMING))


def plan_edit(platform: Platform, vault: VaultRow, name: str, properties: Body) -> ChangePlan:
    """What changing the policy ``name`` to ``properties`` does to the points of its items."""
    draft = parse_policy(properties)
    check_tiering(draft.properties)
    found = _Plan()
    with platform.catalog.read() as connection:
        row = find_policy(connection, vault, name)
        used = items.items_of_policy(connection, row.id)
        check_users(row, draft, used)
        for item in used:
            holder = containers.get_container(connection, item.container_id)
            regime = Regime(draft.rules, item.protection_state)
            changes = changes_of(connection, item, regime, platform.now())
            found.add(holder.friendly_name if holder else "", item, changes)
        now = vaults.get_vault(connection, vault.id) or vault
        refused = refusal(lambda: check_edit(connection, now, row, draft, used))
    return replace(found.plan(), refused=refused)


def plan_switch(
    platform: Platform, vault: VaultRow, container: str, name: str, policy: str
) -> ChangePlan:
    """What giving an item the policy called ``policy`` does to its points."""
    with platform.catalog.read() as connection:
        holder, item = find_item(connection, vault, container, name)
        chosen = find_policy(connection, vault, policy)
        draft = check_fits(chosen, item.workload_type)
        if item.workload_type == WORKLOAD:
            check_machine_moves(connection, item, chosen)
        now = vaults.get_vault(connection, vault.id) or vault
        refused = refusal(lambda: check_switch(connection, now, item, chosen))
        state = item.protection_state
        if state in STOPPED:
            state = resumed_state(bool(item.latest_point_id))
        changes = changes_of(connection, item, Regime(draft.rules, state), platform.now())
    found = _Plan()
    found.add(holder.friendly_name, item, changes)
    return replace(found.plan(), refused=refused)


class _Plan:
    """Counts all and holds no more than can be shown, however many points there are."""

    def __init__(self) -> None:
        self._counts = ChangeCounts()
        self._touched: dict[str, list[PlannedChange]] = {effect: [] for effect in ORDER}

    def add(self, container: str, item: ItemRow, changes: Iterable[PointChange]) -> None:
        held = list(changes)
        self._counts += count_changes(held)
        for change in held:
            shown = self._touched.get(change.effect)
            if shown is not None and len(shown) < MOST_SHOWN:
                shown.append(PlannedChange(container, item, change))

    def plan(self) -> ChangePlan:
        rows = [row for effect in ORDER for row in self._touched[effect]]
        return ChangePlan(self._counts, rows[:MOST_SHOWN])
