"""Policies of a vault: put and delete."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, policies
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.default_policies import default_policy
from holdfast.domain.names import check_policy
from holdfast.domain.policy import Policy, check_for_files, parse_policy
from holdfast.domain.policy_change import ChangeCounts, Regime, count_changes
from holdfast.domain.retention import still_owed
from holdfast.errors import ConflictError, NotFoundError
from holdfast.services.platform import Platform
from holdfast.services.point_changes import changes_of
from holdfast.services.quotas import check_quota

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


@dataclass(frozen=True, slots=True)
class SavedPolicy:
    """``changes``: what the change does to recovery points; None when the policy is new."""

    row: PolicyRow
    changes: ChangeCounts | None


def put_policy(
    platform: Platform, vault: VaultRow, name: str, properties: Body, if_match: str | None = None
) -> SavedPolicy:
    """Create or change. A change counts for all recovery points of its items from the next expiry
    on; schedules follow at once."""
    check_policy(name)
    parsed = parse_policy(properties)
    changes = _changes(platform, vault, name, parsed)
    return SavedPolicy(_put(platform, vault, name, parsed, if_match), changes)


def _changes(platform: Platform, vault: VaultRow, name: str, parsed: Policy) -> ChangeCounts | None:
    """Counted before the write, which many points would hold up."""
    now = platform.now()
    with platform.catalog.read() as connection:
        old = policies.find_policy(connection, vault.id, name)
        if old is None:
            return None
        return count_changes(
            change
            for item in items.items_of_policy(connection, old.id)
            for change in changes_of(
                connection, item, Regime(parsed.rules, item.protection_state), now
            )
        )


def _put(
    platform: Platform, vault: VaultRow, name: str, parsed: Policy, if_match: str | None
) -> PolicyRow:
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
            owed = sorted(still_owed(item.missed_ranges, parsed.rules))
            items.change_item(connection, item.id, next_run_at=None, missed_ranges=owed)
        changed = replace(old, properties=parsed.properties, etag=etag, updated_at=now)
    platform.jobs.wake()
    return changed


def _add(
    platform: Platform, connection: Connection, vault: VaultRow, name: str, properties: Body
) -> PolicyRow:
    most = platform.settings.max_vault_policies
    count = policies.count_policies(connection, vault.id)
    check_quota(count, most, "the limit of policies in a vault", "max_vault_policies")
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
    """False when there was none; DefaultPolicy is made again as it was at first. ConflictError
    (BMSUserErrorPolicyInUse)."""
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
        if row.name_key == "defaultpolicy":
            _add(platform, connection, vault, "DefaultPolicy", default_policy())
        return True
