"""Protected items: protect, change, back up now, and how they are doing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, jobs, points, policies, vaults
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import backups_run, resumed_state, soft_deleted
from holdfast.domain.names import check_full_item, friendly, full_container_name, full_item_name
from holdfast.domain.names import item_key as make_item_key
from holdfast.domain.overdue import counts_from
from holdfast.domain.policy import (
    Policy,
    check_for_files,
    check_for_machines,
    check_moves,
    parse_policy,
)
from holdfast.domain.policy_change import ChangeCounts, Regime, count_changes
from holdfast.domain.retention import still_owed
from holdfast.domain.schedule import next_slot
from holdfast.domain.virtual_machines import WORKLOAD, is_machine
from holdfast.errors import ConflictError, NotFoundError, UsageError
from holdfast.ports.jobs import JobKind, JobSpec
from holdfast.services import alerts, immutable
from holdfast.services.etags import check_etag
from holdfast.services.holding import hold_vault
from holdfast.services.item_bodies import FilesPart, read_files_part
from holdfast.services.machine_items import (
    MachinePart,
    canonical,
    holder_of,
    machine_names,
    read_machine_part,
)
from holdfast.services.platform import Platform
from holdfast.services.point_changes import changes_body, changes_of
from holdfast.services.policies import find_policy_by_id
from holdfast.services.quotas import check_quota

Body = dict[str, Any]
ItemPart = FilesPart | MachinePart
CONFIGURE, FILES = "ConfigureBackup", "FileFolder"
LONGEST_KEPT = timedelta(days=99 * 366)


@dataclass(frozen=True, slots=True)
class SavedItem:
    """``operation``: Azure's word for what was done, by the job ``job_id``. ``changes``: what
    another policy, or resuming, does to the item's recovery points."""

    row: ItemRow
    job_id: str
    operation: str
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


def protect_item(
    platform: Platform,
    vault: VaultRow,
    container: str,
    name: str,
    properties: Body,
    by: str,
    if_match: str | None = None,
) -> SavedItem:
    """Protect, change or resume an item, as the body says. ConflictError (UserErrorItemSoftDeleted)
    for one whose data was deleted, (UserErrorOperationInProgress) while its data is removed,
    (UserErrorVaultImmutable) for a policy that keeps less."""
    full = check_full_item(full_item_name(name))
    with platform.catalog.write() as connection:
        held_vault = hold_vault(connection, vault)
        if is_machine(container):
            machine = machine_names(full_container_name(container), full)
            holder = holder_of(platform, connection, vault, machine)
        else:
            machine = None
            holder = find_container(connection, vault, container)
        old = _held(connection, items.find_item(connection, holder.id, full))
        check_etag(if_match, old.etag if old else None, f"item {friendly(name)}")
        if old is not None and old.deleted_at is not None:
            raise soft_deleted(old.friendly_name)
        policy = _policy(connection, vault, properties, old)
        check_fits(policy, WORKLOAD if machine else FILES)
        _check_room(platform, connection, vault, policy, old, machine=machine is not None)
        part: ItemPart
        if machine is not None:
            check_machine_moves(connection, old, policy)
            part = read_machine_part(connection, vault, machine, properties, old, policy)
            full = canonical(connection, vault, machine)[1]
        else:
            part = read_files_part(properties, old)
        if old is None:
            row, changes = _new_item(platform, vault, holder, full, policy, part), None
            items.add_item(connection, row)
        else:
            if old.policy_id != policy.id:
                immutable.check_switch(connection, held_vault, old, policy)
            row, changes = _changed(platform, connection, old, policy, part)
        result = {"retentionChange": changes_body(changes)} if changes is not None else {}
        job = record_job(platform, connection, row, "configure", by, result)
    platform.jobs.wake()
    return SavedItem(row, job, CONFIGURE, changes)


def _held(connection: Connection, found: ItemRow | None) -> ItemRow | None:
    """The item as it is now, held until the transaction ends, and not on its way out."""
    row = items.lock_item(connection, found.id) if found is not None else None
    if row is None:
        return None
    removals = jobs.active_jobs_of(connection, row.vault_id, item_id=row.id, kind="purge")
    if removals:
        raise ConflictError(
            f"the data of {row.friendly_name} is being removed (job {removals[0].id})",
            code="UserErrorOperationInProgress",
            hint="wait for that job, then protect the item anew",
        )
    return row


def record_job(
    platform: Platform,
    connection: Connection,
    row: ItemRow,
    kind: JobKind,
    by: str,
    result: Body | None = None,
) -> str:
    """The job of a change that this transaction makes; its id."""
    spec = JobSpec(
        kind=kind,
        vault_id=row.vault_id,
        entity_name=row.friendly_name,
        item_id=row.id,
        container_id=row.container_id,
        created_by=by,
    )
    return platform.jobs.record(connection, spec, result or {})


def _policy(
    connection: Connection, vault: VaultRow, properties: Body, old: ItemRow | None
) -> PolicyRow:
    policy_id = properties.get("policyId")
    if not policy_id:
        current = _policy_of(connection, old)
        if current is None:
            raise UsageError(
                "the item's policy is missing", code="PolicyRequired", hint="give --policy NAME"
            )
        return current
    return find_policy_by_id(connection, vault, str(policy_id))


def _policy_of(connection: Connection, item: ItemRow | None) -> PolicyRow | None:
    return policies.get_policy(connection, item.policy_id) if item and item.policy_id else None


def check_machine_moves(connection: Connection, old: ItemRow | None, policy: PolicyRow) -> None:
    """Whether a virtual machine can go from the policy it has, or was stopped under, to another.
    UsageError (UserErrorPolicyTypeMismatch)."""
    if old is None:
        return
    held = _policy_of(connection, old)
    before = held.properties if held else {"policyType": old.properties.get(immutable.OF_TYPE)}
    check_moves(before, policy.properties, old.friendly_name)


def check_fits(policy: PolicyRow, workload: str) -> Policy:
    """The policy, parsed. UsageError (UserErrorPolicyTypeMismatch) when it cannot protect such an
    item."""
    parsed = parse_policy(policy.properties)
    return check_for_machines(parsed) if workload == WORKLOAD else check_for_files(parsed)


def _check_room(
    platform: Platform,
    connection: Connection,
    vault: VaultRow,
    policy: PolicyRow,
    old: ItemRow | None,
    *,
    machine: bool,
) -> None:
    """ConflictError (QuotaExceeded)."""
    settings = platform.settings
    if old is None:
        count, most = items.count_items(connection, vault.id), settings.max_vault_items
        check_quota(count, most, "the limit of items in a vault", "max_vault_items")
    if old is None and machine:
        count, most = items.count_workload(connection, vault.id, WORKLOAD), settings.max_vault_vms
        what = "the limit of virtual machines in a vault"
        check_quota(count, most, what, "max_vault_vms", "put it into another vault")
    if old is None or old.policy_id != policy.id:
        count, most = policies.count_items(connection, policy.id), settings.max_policy_items
        check_quota(count, most, "the limit of items under a policy", "max_policy_items")
        if machine:
            count, most = policies.count_machines(connection, policy.id), settings.max_policy_vms
            what = "the limit of virtual machines under a policy"
            check_quota(count, most, what, "max_policy_vms", "put it under another policy")


def _new_item(
    platform: Platform,
    vault: VaultRow,
    holder: ContainerRow,
    full: str,
    policy: PolicyRow,
    part: ItemPart,
) -> ItemRow:
    now = platform.now()
    return ItemRow(
        id=platform.new_id(),
        vault_id=vault.id,
        container_id=holder.id,
        policy_id=policy.id,
        name_key=full.lower(),
        name=full,
        friendly_name=friendly(full),
        item_key=make_item_key(holder.name, full),
        workload_type=WORKLOAD if is_machine(holder.name) else FILES,
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
    part: ItemPart,
) -> tuple[ItemRow, ChangeCounts | None]:
    resumed = old.protection_state in ("ProtectionStopped", "BackupsSuspended")
    rules = parse_policy(policy.properties).rules
    values: Body = {
        "policy_id": policy.id,
        "missed_ranges": sorted(still_owed(old.missed_ranges, rules)),
        "include_paths": part.includes,
        "exclude_globs": part.excludes,
        "properties": part.properties(_without_promise(old.properties)),
        "next_run_at": first_run(policy, platform.now()),
        "etag": platform.new_etag(),
        "updated_at": platform.now(),
    }
    if resumed or policy.id != old.policy_id:
        values["scheduled_since"] = begun(connection, old, platform.now())
    if resumed:
        values["protection_state"] = resumed_state(bool(old.latest_point_id))
    row = replace(old, **values)
    changes = None
    if resumed or policy.id != old.policy_id:
        regime = Regime(rules, row.protection_state)
        changes = count_changes(changes_of(connection, old, regime, platform.now()))
    items.change_item(connection, old.id, **values)
    if resumed:
        vaults.note_life(connection, old.vault_id)
    alerts.item_changed(platform, connection, old, row, changes)
    return row, changes


def _without_promise(properties: Body) -> Body:
    """An item that has a policy goes by it."""
    gone = (immutable.KEPT_BY, immutable.OF_TYPE)
    return {key: value for key, value in properties.items() if key not in gone}


def begun(connection: Connection, old: ItemRow, now: datetime) -> datetime:
    """When the schedule that an item is given begins."""
    held = _policy_of(connection, old)
    before = parse_policy(held.properties) if held else None
    return counts_from(before, old.protection_state, old.latest_point_at, old.due_since, now)


def back_up_now(
    platform: Platform, vault: VaultRow, container: str, name: str, retain: datetime | None, by: str
) -> str:
    """Start an on-demand backup; the job's id."""
    with platform.catalog.write() as connection:
        holder, found = find_item(connection, vault, container, name)
        row = _held(connection, found) or found
        _check_runs(row)
        if retain is not None and retain <= platform.now():
            raise UsageError(
                "the retention date is in the past",
                code="UserErrorInvalidRetention",
                hint="give a date to come: --retain-until 2030-01-01",
            )
        if retain is not None and retain > platform.now() + LONGEST_KEPT:
            raise UsageError(
                "the retention date is more than 99 years away",
                code="UserErrorInvalidRetention",
                hint="give one within 99 years",
            )
        check_quota(
            points.count_points(connection, row.id),
            platform.settings.max_item_points,
            f"the limit of recovery points of {row.friendly_name}",
            "max_item_points",
            "keep fewer by its policy (holdfast policy set --plan shows what goes)",
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
        job = platform.jobs.create(connection, spec)
    platform.jobs.wake()
    return job


def _check_runs(row: ItemRow) -> None:
    """ConflictError (UserErrorItemSoftDeleted, UserErrorProtectionStopped)."""
    if row.deleted_at is not None:
        raise soft_deleted(row.friendly_name)
    if not backups_run(row.protection_state):
        raise ConflictError(
            f"protection of {row.friendly_name} is stopped",
            code="UserErrorProtectionStopped",
            hint="resume it with a policy: holdfast item resume NAME --policy P",
        )
