"""Protected items: protect, change, stop, delete, and how they are doing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, points, policies
from holdfast.catalog import jobs as job_rows
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import backups_run, check_item_step, resumed_state
from holdfast.domain.names import check_full_item, friendly, full_container_name, full_item_name
from holdfast.domain.names import item_key as make_item_key
from holdfast.domain.overdue import is_overdue
from holdfast.domain.policy import check_for_files, parse_policy
from holdfast.domain.policy_change import ChangeCounts, Regime, count_changes
from holdfast.domain.retention import still_owed
from holdfast.domain.schedule import next_slot
from holdfast.errors import ConflictError, NotFoundError, UsageError
from holdfast.ports.jobs import JobSpec
from holdfast.services.item_bodies import FilesPart, read_files_part
from holdfast.services.platform import Platform
from holdfast.services.point_changes import changes_of
from holdfast.services.policies import find_policy
from holdfast.services.quotas import check_quota

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ItemView:
    """An item with what belongs to it, for showing."""

    item: ItemRow
    container: ContainerRow
    policy: PolicyRow | None
    overdue: bool
    points: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class SavedItem:
    """``changes``: what another policy, or resuming, does to the item's recovery points."""

    row: ItemRow
    changes: ChangeCounts | None = None


def find_container(connection: Connection, vault: VaultRow, name: str) -> ContainerRow:
    """NotFoundError (ContainerNotFound)."""
    row = containers.find_container(connection, vault.id, full_container_name(name))
    if row is None:
        raise NotFoundError(
            f"there is no container {name} in vault {vault.name}",
            code="ContainerNotFound",
            hint="see which exist: holdfast container list",
        )
    return row


def find_item(
    connection: Connection, vault: VaultRow, container: str, name: str
) -> tuple[ContainerRow, ItemRow]:
    """NotFoundError (ContainerNotFound, ItemNotFound)."""
    holder = find_container(connection, vault, container)
    row = items.find_item(connection, holder.id, full_item_name(name))
    if row is None:
        raise NotFoundError(
            f"there is no item {friendly(name)} on {holder.friendly_name}",
            code="ItemNotFound",
            hint="see which exist: holdfast item list",
        )
    return holder, row


def put_item(
    platform: Platform, vault: VaultRow, container: str, name: str, properties: Body
) -> SavedItem:
    """Protect, change, stop (``protectionState`` ProtectionStopped or BackupsSuspended) or resume
    an item, as the body says."""
    check_full_item(full_item_name(name))
    with platform.catalog.write() as connection:
        holder = find_container(connection, vault, container)
        old = items.find_item(connection, holder.id, full_item_name(name))
        state = properties.get("protectionState")
        if state in ("ProtectionStopped", "BackupsSuspended"):
            if old is None:
                raise NotFoundError(
                    f"there is no item {friendly(name)}",
                    code="ItemNotFound",
                    hint="see which exist: holdfast item list",
                )
            return SavedItem(_stop(platform, connection, old, state))
        policy = _policy(connection, vault, properties, old)
        _check_room(platform, connection, vault, policy, old)
        part = read_files_part(properties, old)
        if old is None:
            saved = SavedItem(_new_item(platform, vault, holder, name, policy, part))
            items.add_item(connection, saved.row)
        else:
            saved = _changed(platform, connection, old, policy, part)
    platform.jobs.wake()
    return saved


def _policy(
    connection: Connection, vault: VaultRow, properties: Body, old: ItemRow | None
) -> PolicyRow:
    policy_id = properties.get("policyId")
    if not policy_id:
        current = policies.get_policy(connection, old.policy_id) if old and old.policy_id else None
        if current is None:
            raise UsageError(
                "the item's policy is missing", code="PolicyRequired", hint="give --policy NAME"
            )
        return current
    row = find_policy(connection, vault, str(policy_id).rstrip("/").rpartition("/")[2])
    check_for_files(parse_policy(row.properties))
    return row


def _check_room(
    platform: Platform,
    connection: Connection,
    vault: VaultRow,
    policy: PolicyRow,
    old: ItemRow | None,
) -> None:
    """ConflictError (QuotaExceeded)."""
    settings = platform.settings
    if old is None:
        count, most = items.count_items(connection, vault.id), settings.max_vault_items
        check_quota(count, most, "the limit of items in a vault", "max_vault_items")
    if old is None or old.policy_id != policy.id:
        count, most = policies.count_items(connection, policy.id), settings.max_policy_items
        check_quota(count, most, "the limit of items under a policy", "max_policy_items")


def _new_item(
    platform: Platform,
    vault: VaultRow,
    holder: ContainerRow,
    name: str,
    policy: PolicyRow,
    part: FilesPart,
) -> ItemRow:
    full, now = full_item_name(name), platform.now()
    return ItemRow(
        id=platform.new_id(),
        vault_id=vault.id,
        container_id=holder.id,
        policy_id=policy.id,
        name_key=full.lower(),
        name=full,
        friendly_name=friendly(full),
        item_key=make_item_key(holder.name, full),
        workload_type="FileFolder",
        protection_state="IRPending",
        include_paths=part.includes,
        exclude_globs=part.excludes,
        properties=part.properties({}),
        missed_ranges=[],
        next_run_at=first_run(policy, now),
        last_slot_at=None,
        last_backup_at=None,
        last_backup_status="",
        last_job_id=None,
        last_error_code="",
        latest_point_id="",
        latest_point_at=None,
        etag=platform.new_etag(),
        created_at=now,
        updated_at=now,
    )


def first_run(policy: PolicyRow, now: datetime) -> datetime | None:
    """The policy's next due moment."""
    parsed = parse_policy(policy.properties)
    return None if parsed.schedule is None else next_slot(parsed.schedule, parsed.zone, now)


def _changed(
    platform: Platform,
    connection: Connection,
    old: ItemRow,
    policy: PolicyRow,
    part: FilesPart,
) -> SavedItem:
    resumed = old.protection_state in ("ProtectionStopped", "BackupsSuspended")
    rules = parse_policy(policy.properties).rules
    values: Body = {
        "policy_id": policy.id,
        "missed_ranges": sorted(still_owed(old.missed_ranges, rules)),
        "include_paths": part.includes,
        "exclude_globs": part.excludes,
        "properties": part.properties(old.properties),
        "next_run_at": first_run(policy, platform.now()),
        "etag": platform.new_etag(),
        "updated_at": platform.now(),
    }
    if resumed:
        values["protection_state"] = resumed_state(bool(old.latest_point_id))
    row = replace(old, **values)
    changes = None
    if resumed or policy.id != old.policy_id:
        regime = Regime(rules, row.protection_state)
        changes = count_changes(changes_of(connection, old, regime, platform.now()))
    items.change_item(connection, old.id, **values)
    return SavedItem(row, changes)


def _stop(platform: Platform, connection: Connection, old: ItemRow, state: str) -> ItemRow:
    check_item_step(old.protection_state, state)
    values: Body = {
        "protection_state": state,
        "next_run_at": None,
        "etag": platform.new_etag(),
        "updated_at": platform.now(),
    }
    if state == "ProtectionStopped":
        values["policy_id"] = None
    items.change_item(connection, old.id, **values)
    return replace(old, **values)


def delete_item(platform: Platform, vault: VaultRow, container: str, name: str, by: str) -> str:
    """Stop protection and delete the data: a job drops all recovery points, then the item goes.
    Returns the job's id."""
    with platform.catalog.write() as connection:
        _, row = find_item(connection, vault, container, name)
        running = job_rows.active_jobs_of(connection, vault.id, item_id=row.id)
        if running:
            raise ConflictError(
                f"{row.friendly_name} has a running job ({running[0].id})",
                code="UserErrorOperationInProgress",
                hint="wait for it or cancel it, then try again",
            )
        drops = {
            point.rp_id: f"data deleted by {by}"
            for point in points.points_of_item(connection, row.id)
        }
        spec = JobSpec(
            kind="expire",
            vault_id=vault.id,
            entity_name=row.friendly_name,
            item_id=row.id,
            parameters={"drops": drops, "explicit": True, "removeItem": row.id},
            created_by=by,
        )
        job_id = platform.jobs.create(connection, spec)
        items.change_item(
            connection, row.id, protection_state="ProtectionStopped", next_run_at=None
        )
    platform.jobs.wake()
    return job_id


def back_up_now(
    platform: Platform, vault: VaultRow, container: str, name: str, retain: datetime | None, by: str
) -> str:
    """Start an on-demand backup; the job's id."""
    with platform.catalog.read() as connection:
        holder, row = find_item(connection, vault, container, name)
    if not backups_run(row.protection_state):
        raise ConflictError(
            f"protection of {row.friendly_name} is stopped",
            code="UserErrorProtectionStopped",
            hint="resume it with a policy: holdfast item update NAME --policy P",
        )
    if retain is not None and retain <= platform.now():
        raise UsageError(
            "the retention date is in the past",
            code="UserErrorInvalidRetention",
            hint="give a date to come: --retain-until 2030-01-01",
        )
    spec = JobSpec(
        kind="backup",
        vault_id=vault.id,
        entity_name=row.friendly_name,
        item_id=row.id,
        container_id=holder.id,
        parameters={"retainUntil": retain.isoformat() if retain else None},
        created_by=by,
    )
    return platform.jobs.submit(spec)


def view_item(platform: Platform, connection: Connection, row: ItemRow) -> ItemView:
    """An item with its container, policy and health."""
    holder = containers.get_container(connection, row.container_id)
    if holder is None:
        raise NotFoundError(
            "the item's container is gone",
            code="ContainerNotFound",
            hint="the item was deleted meanwhile; list the items again",
        )
    policy = policies.get_policy(connection, row.policy_id) if row.policy_id else None
    overdue = policy is not None and is_overdue(
        parse_policy(policy.properties),
        row.protection_state,
        row.latest_point_at,
        row.created_at,
        platform.now(),
    )
    count = points.count_points(connection, row.id)
    oldest = points.oldest_point(connection, row.id)
    return ItemView(row, holder, policy, overdue, count, oldest.time if oldest else None)
