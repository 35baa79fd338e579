"""What a vault's immutability says to a change, asked before anything of it is written.

A vault that is not immutable lets everything pass, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, points, policies
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.immutability import (
    Rules,
    check_delete_data,
    check_increase,
    check_reduction,
    check_vault_delete,
    cut_short,
    end_of,
    increases,
    is_immutable,
    ranges_of,
    reductions,
    rules_in,
)
from holdfast.domain.policy import Policy, parse_policy
from holdfast.domain.retention import PointFacts
from holdfast.errors import ConflictError
from holdfast.services.point_changes import point_facts

KEPT_BY = "keptBy"  # of an item's properties: days by range of the policy it was stopped under
OF_TYPE = "keptPolicyType"  # of which type that policy was


def check_edit(
    connection: Connection, vault: VaultRow, old: PolicyRow, new: Policy, used: Sequence[ItemRow]
) -> None:
    """Changing a policy; ``used``: its items. ConflictError (UserErrorVaultImmutable)."""
    if not is_immutable(vault.immutability):
        return
    before, what = parse_policy(old.properties), f"policy {old.name}"
    cut = sum(_cut(connection, item, before, new) for item in used)
    check_reduction(reductions(before, new), cut, what)
    suspended = [row.friendly_name for row in used if row.protection_state == "BackupsSuspended"]
    check_increase(increases(before, new), suspended, old.name)


def check_switch(connection: Connection, vault: VaultRow, item: ItemRow, policy: PolicyRow) -> None:
    """Giving an item a policy: another one, or one again after it was stopped. ConflictError
    (UserErrorVaultImmutable)."""
    if not is_immutable(vault.immutability):
        return
    new, what = parse_policy(policy.properties), f"policy {policy.name} of {item.friendly_name}"
    held = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    if held is not None:
        before = parse_policy(held.properties)
        check_reduction(reductions(before, new), _cut(connection, item, before, new), what)
        return
    kept = item.properties.get(KEPT_BY)
    rules = rules_in(kept) if kept else None
    promised = [(fact, _promise(fact, until, rules)) for fact, until in _facts(connection, item)]
    check_reduction([], cut_short(promised, new.rules), what)


def _cut(connection: Connection, item: ItemRow, old: Policy, new: Policy) -> int:
    """How many of an item's points a range that is new would end sooner: those that no range but
    it has a claim to. Ranges that stay or grow cut none, so without a new one none are read."""
    if not ranges_of(new).keys() - ranges_of(old).keys():
        return 0
    held = [(fact, end_of(fact, old.rules)) for fact, _ in _facts(connection, item)]
    return cut_short(held, new.rules)


def _facts(connection: Connection, item: ItemRow) -> list[tuple[PointFacts, datetime | None]]:
    rows = points.points_of_item(connection, item.id)
    return [(point_facts(row), row.promised_until) for row in rows]


def _promise(point: PointFacts, until: datetime | None, rules: Rules | None) -> datetime | None:
    """Until when a stopped item's point was to be kept when it was stopped. Where that was not
    noted, what an expiry promised it before."""
    return until if rules is None else end_of(point, rules)


def check_delete(connection: Connection, vault: VaultRow, item: ItemRow, now: datetime) -> None:
    """Deleting an item's data. ConflictError (UserErrorVaultImmutable) while one of its points has
    not expired; of stopped protection none ever does."""
    if not is_immutable(vault.immutability):
        return
    stopped = item.protection_state == "ProtectionStopped"
    held = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    rules = None if held is None or stopped else parse_policy(held.properties).rules
    ends = [end_of(fact, rules) for fact, _ in _facts(connection, item)]
    check_delete_data(item.friendly_name, ends, now)


def check_whole(connection: Connection, vault: VaultRow) -> None:
    """Deleting a vault. ConflictError (UserErrorVaultImmutable) while it holds recovery points."""
    if is_immutable(vault.immutability):
        held = items.items_of_vault(connection, vault.id)
        check_vault_delete(
            vault.name, sum(points.count_points(connection, item.id) for item in held)
        )


def kept_by(connection: Connection, item: ItemRow) -> dict[str, Any]:
    """An item's properties with what its policy keeps and of which type it is, for the day its
    protection is resumed: a policy that is taken away must not take its promise along."""
    held = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    if held is None:
        return item.properties
    kept = {KEPT_BY: ranges_of(parse_policy(held.properties))}
    return {**item.properties, **kept, OF_TYPE: held.properties.get("policyType")}


def refusal(check: Callable[[], None]) -> ConflictError | None:
    """What a plan tells of a change that would be refused."""
    try:
        check()
    except ConflictError as error:
        return error
    return None
