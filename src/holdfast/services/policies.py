"""Policies of a vault: put, delete, and what a draft would keep and drop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, points, policies
from holdfast.catalog.items import ItemRow
from holdfast.catalog.points import PointRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.names import check_policy
from holdfast.domain.policy import check_for_files, parse_policy
from holdfast.domain.retention import Decision, PointFacts, plan_retention
from holdfast.errors import ConflictError, NotFoundError
from holdfast.services.platform import Platform

Body = dict[str, Any]


def find_policy(connection: Connection, vault: VaultRow, name: str) -> PolicyRow:
    """NotFoundError (BMSUserErrorPolicyNotFound)."""
    row = policies.find_policy(connection, vault.id, name)
    if row is None:
        raise NotFoundError(
            f"there is no policy {name} in vault {vault.name}",
            code="BMSUserErrorPolicyNotFound",
            hint="see which exist: holdfast policy list",
        )
    return row


def put_policy(
    platform: Platform, vault: VaultRow, name: str, properties: Body, if_match: str | None = None
) -> PolicyRow:
    """Create or change. A change counts for all recovery points of its items from the next expiry
    on; schedules follow at once."""
    check_policy(name)
    parsed = parse_policy(properties)
    now = platform.now()
    with platform.catalog.write() as connection:
        old = policies.find_policy(connection, vault.id, name)
        if old is None:
            return _add(platform, connection, vault, name, parsed.properties)
        if if_match not in (None, "*", old.etag):
            raise ConflictError(
                f"policy {name} was changed by someone else meanwhile", code="PreconditionFailed",
                hint="read it again and repeat the change",
            )  # fmt: skip
        if old.management_type != parsed.kind:
            raise ConflictError(
                f"policy {name} is of type {old.management_type}; a policy keeps its type",
                code="UserErrorPolicyTypeMismatch", hint="give the new policy another name",
            )  # fmt: skip
        used = items.items_of_policy(connection, old.id)
        if used:
            check_for_files(parsed)
        etag = platform.new_etag()
        policies.change_policy(
            connection, old.id, properties=parsed.properties, etag=etag, updated_at=now
        )
        for item in used:
            items.change_item(connection, item.id, next_run_at=None)
        changed = replace(old, properties=parsed.properties, etag=etag, updated_at=now)
    platform.jobs.wake()
    return changed


def _add(
    platform: Platform, connection: Connection, vault: VaultRow, name: str, properties: Body
) -> PolicyRow:
    now = platform.now()
    row = PolicyRow(
        id=platform.new_id(),
        vault_id=vault.id,
        name_key=name.lower(),
        name=name,
        management_type=properties["backupManagementType"],
        properties=properties,
        etag=platform.new_etag(),
        created_at=now,
        updated_at=now,
    )
    policies.add_policy(connection, row)
    return row


def delete_policy(platform: Platform, vault: VaultRow, name: str) -> bool:
    """False when there was none. ConflictError (BMSUserErrorPolicyInUse)."""
    with platform.catalog.write() as connection:
        row = policies.find_policy(connection, vault.id, name)
        if row is None:
            return False
        count = policies.count_items(connection, row.id)
        if count:
            raise ConflictError(
                f"policy {name} protects {count} item(s) and cannot be deleted",
                code="BMSUserErrorPolicyInUse",
                hint="give the items another policy first: holdfast item update NAME --policy P",
            )
        policies.remove_policy(connection, row.id)
        return True


def point_facts(row: PointRow) -> PointFacts:
    """What retention needs to know of a point."""
    return PointFacts(row.rp_id, row.time, frozenset(row.tags), row.retain_until, not row.scheduled)


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
