"""Policies of a vault: put and delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, policies, vaults
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.default_policies import default_policies
from holdfast.domain.lifecycle import STOPPED
from holdfast.domain.names import check_policy
from holdfast.domain.overdue import counts_from
from holdfast.domain.policy import (
    OURS,
    Policy,
    check_for_files,
    check_moves,
    check_tiering,
    parse_policy,
)
from holdfast.domain.policy_change import ChangeCounts, Regime, count_changes, total_changes
from holdfast.domain.policy_reading import check_kinds_named
from holdfast.domain.retention import still_owed
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import ConflictError, NotFoundError
from holdfast.ports.jobs import JobSpec
from holdfast.services import alerts, immutable
from holdfast.services.etags import check_etag
from holdfast.services.holding import hold_vault
from holdfast.services.platform import Platform
from holdfast.services.point_changes import changes_body, changes_of
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


def find_policy_by_id(connection: Connection, vault: VaultRow, policy_id: str) -> PolicyRow:
    """By ARM id in any case, or by name. NotFoundError (BMSUserErrorPolicyNotFound) for one of
    another vault, whatever its name."""
    holder, _, name = policy_id.rstrip("/").rpartition("/")
    own = f"/resourcegroups/{vault.group_key}/providers/microsoft.recoveryservices/vaults/"
    if holder and not holder.lower().endswith(f"{own}{vault.name_key}/backuppolicies"):
        raise NotFoundError(
            f"{policy_id} is no policy of vault {vault.name}",
            code="BMSUserErrorPolicyNotFound",
            hint="an item takes a policy of its own vault: holdfast policy list",
        )
    return find_policy(connection, vault, name)


@dataclass(frozen=True, slots=True)
class SavedPolicy:
    """``changes``: what the change does to recovery points; None when the policy is new."""

    row: PolicyRow
    changes: ChangeCounts | None


def put_policy(
    platform: Platform,
    vault: VaultRow,
    name: str,
    properties: Body,
    if_match: str | None = None,
    by: str = "",
) -> SavedPolicy:
    """Create or change. A change counts for all recovery points of its items from the next expiry
    on; schedules follow at once. Each of its items has a job that tells of it. UsageError
    (UserErrorInvalidPolicyInput, UserErrorNotSupported, ...), ConflictError
    (UserErrorVaultImmutable)."""
    check_policy(name)
    properties = _with_ours(platform, vault, name, properties)
    parsed = parse_policy(properties)
    check_kinds_named(parsed.properties)
    check_tiering(parsed.properties)
    changes = _changes(platform, vault, name, parsed)
    row = _put(platform, vault, name, parsed, if_match, by, changes or {})
    return SavedPolicy(row, None if changes is None else total_changes(changes.values()))


def _with_ours(platform: Platform, vault: VaultRow, name: str, properties: Body) -> Body:
    """With what is ours and is not named as it was: clients that know Azure's fields alone drop it
    from a policy they were shown and send back. A null takes it away."""
    with platform.catalog.read() as connection:
        old = policies.find_policy(connection, vault.id, name)
    if old is None or old.management_type != properties.get("backupManagementType"):
        return properties
    held = {key: old.properties[key] for key in OURS if key in old.properties}
    return {**held, **properties}


def _changes(
    platform: Platform, vault: VaultRow, name: str, parsed: Policy
) -> dict[str, ChangeCounts] | None:
    """By item; counted before the write, which many points would hold up."""
    now = platform.now()
    with platform.catalog.read() as connection:
        old = policies.find_policy(connection, vault.id, name)
        if old is None:
            return None
        return {
            item.id: count_changes(
                changes_of(connection, item, Regime(parsed.rules, item.protection_state), now)
            )
            for item in items.items_of_policy(connection, old.id)
        }


def _put(
    platform: Platform,
    vault: VaultRow,
    name: str,
    parsed: Policy,
    if_match: str | None,
    by: str,
    changes: Mapping[str, ChangeCounts],
) -> PolicyRow:
    now = platform.now()
    with platform.catalog.write() as connection:
        held = hold_vault(connection, vault)
        old = policies.find_policy(connection, vault.id, name)
        check_etag(if_match, old.etag if old else None, f"policy {name}")
        if old is None:
            return _add(platform, connection, vault, name, parsed.properties)
        if old.management_type != parsed.kind:
            raise ConflictError(
                f"policy {name} is of type {old.management_type}; a policy keeps its type",
                code="UserErrorPolicyTypeMismatch", hint="give the new policy another name",
            )  # fmt: skip
        used = items.items_of_policy(connection, old.id)
        check_users(old, parsed, used)
        immutable.check_edit(connection, held, old, parsed, used)
        etag = platform.new_etag()
        policies.change_policy(
            connection, old.id, properties=parsed.properties, etag=etag, updated_at=now
        )
        if used:
            _follow(connection, parse_policy(old.properties), parsed, used, now)
        if parsed.properties != old.properties:
            for item in used:
                _record_job(platform, connection, item, by, changes.get(item.id))
        if any(item.protection_state in STOPPED for item in used):
            vaults.note_life(connection, vault.id)
        alerts.policy_changed(platform, connection, old, parsed, used)
        changed = replace(old, properties=parsed.properties, etag=etag, updated_at=now)
    platform.jobs.wake()
    return changed


def check_users(old: PolicyRow, new: Policy, used: Sequence[ItemRow]) -> None:
    """Whether the items of a policy can have it as it would be. UsageError
    (UserErrorPolicyTypeMismatch)."""
    for item in used:
        check_for_files(new)
        if item.workload_type == WORKLOAD:
            check_moves(old.properties, new.properties, item.friendly_name)


def _record_job(
    platform: Platform,
    connection: Connection,
    item: ItemRow,
    by: str,
    counts: ChangeCounts | None,
) -> None:
    """As Azure: a policy that changes configures each of its items anew."""
    spec = JobSpec(
        kind="configure",
        vault_id=item.vault_id,
        entity_name=item.friendly_name,
        item_id=item.id,
        container_id=item.container_id,
        created_by=by,
    )
    result = {"retentionChange": changes_body(counts)} if counts is not None else {}
    platform.jobs.record(connection, spec, result)


def _follow(
    connection: Connection, old: Policy, new: Policy, used: Sequence[ItemRow], now: datetime
) -> None:
    """The items of a policy take up what it is now."""
    moved = (old.schedule, old.zone_name) != (new.schedule, new.zone_name)
    for item in used:
        values: Body = {
            "next_run_at": None,
            "missed_ranges": sorted(still_owed(item.missed_ranges, new.rules)),
        }
        if moved:
            state, since = item.protection_state, item.due_since
            values["scheduled_since"] = counts_from(old, state, item.latest_point_at, since, now)
        items.change_item(connection, item.id, **values)


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
    """False when there was none; a policy that every new vault has is made again as it was at
    first. ConflictError (BMSUserErrorPolicyInUse)."""
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
        for default, properties in default_policies().items():
            if row.name_key == default.lower():
                _add(platform, connection, vault, default, properties)
        return True
