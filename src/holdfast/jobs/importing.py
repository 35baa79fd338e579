"""The import job: rebuild a vault's containers, policies, items and points from its log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, points, policies, vaults
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.policies import PolicyRow
from holdfast.domain.default_policies import default_policies
from holdfast.domain.immutability import State, read_state, stronger
from holdfast.domain.soft_delete import (
    LEAST_DAYS,
    MOST_DAYS,
    purge_time,
    read_settings,
    stored_in,
    written,
)
from holdfast.errors import IntegrityError
from holdfast.jobs import outcome
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.facts import point_row
from holdfast.jobs.ledger import Ledger
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.progress import ServerProgress
from holdfast.vaultstore.life import ItemLife, VaultLife
from holdfast.vaultstore.values import RecoveryPointRecord
from holdfast.vaultstore.vault import Vault
from holdfast.vaultstore.vaultclock import from_ns

log = logging.getLogger(__name__)


class ImportProcedure:
    """Every row is written unless it exists, so the job may run any number of times, and may stop
    between two items; policies every vault has are added where the points know none of that name.

    Items that were stopped, suspended or deleted come back as that, as far as the vault knows it;
    a deletion's period begins anew, so that nothing goes sooner than it would have. All others come
    back stopped with their data retained, until an agent is enrolled and protection resumed."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("rebuild", self._rebuild),)

    def _rebuild(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        vault = self._context.open_vault(job.vault_id)
        vault.refresh()
        life, doubt = _life_of(vault)
        ledger = self._context.ledger
        with self._context.catalog.write() as connection:
            _restore_settings(connection, job.vault_id, life, read_state(vault.immutability))
            for one in life.items.values():
                _policy(connection, ledger, job.vault_id, one.policy)
        by_item: dict[str, list[RecoveryPointRecord]] = {}
        for record in vault.recovery_points():
            by_item.setdefault(record.item_key, []).append(record)
        if paused := self._rebuild_items(job, by_item, life):
            return paused
        with self._context.catalog.write() as connection:
            for name, properties in default_policies().items():
                kind = properties["backupManagementType"]
                described = {"name": name, "managementType": kind, "properties": properties}
                _policy(connection, ledger, job.vault_id, described)
            vaults.life_was_read(connection, job.vault_id, life.version)
        count = sum(map(len, by_item.values()))
        deleted = [key for key, one in life.items.items() if one.deleted_at_ns and key in by_item]
        result = {"items": len(by_item), "recoveryPoints": count, "deletedItems": len(deleted)}
        note = ["imported", f"{len(by_item)} items with {count} recovery points{doubt}"]
        return outcome.done(result, note)

    def _rebuild_items(
        self, job: JobRow, by_item: Mapping[str, list[RecoveryPointRecord]], life: VaultLife
    ) -> Outcome | None:
        """Item by item; why it stopped between two of them."""
        progress = ServerProgress(self._context, job, "Import", "Items")
        for number, (item_key, records) in enumerate(by_item.items()):
            progress.report(number, len(by_item))
            if progress.cancelled() and (paused := progress.paused()):
                return paused
            with self._context.catalog.write() as connection:
                stood = life.items.get(item_key)
                ledger = self._context.ledger
                _rebuild_item(connection, ledger, job.vault_id, item_key, records, stood)
        progress.report(len(by_item), len(by_item))
        return None

    def release(self, job: JobRow) -> None:
        """Nothing is held."""

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        """Nothing follows."""


def _rebuild_item(
    connection: Connection,
    ledger: Ledger,
    vault_id: str,
    item_key: str,
    records: list[RecoveryPointRecord],
    stood: ItemLife | None,
) -> None:
    newest = max(records, key=lambda record: record.rp_id)
    document = newest.item_document
    container_id = _container(connection, ledger, vault_id, item_key, document)
    policy_id = _policy(connection, ledger, vault_id, document.get("policy"))
    if stood is not None:
        policy_id = _policy(connection, ledger, vault_id, stood.policy)
    item = items.find_item_by_key(connection, vault_id, item_key)
    if item is None:
        item = _item_row(ledger, vault_id, container_id, policy_id, item_key, newest)
        item = _as_it_stood(item, stood, ledger.clock.now())
        items.add_item(connection, item)
    for record in records:
        points.put_point(connection, point_row(record, vault_id, item.id))


def _life_of(vault: Vault) -> tuple[VaultLife, str]:
    """How the items stood, and what is in doubt about it. When it cannot be read all are stopped,
    which keeps everything, and the vault counts as immutable until a person says otherwise."""
    try:
        return vault.read_life() or VaultLife(), ""
    except IntegrityError as error:
        log.warning("how items stood cannot be read: %s", error.message)
        said = "; how they stood cannot be read, so all are stopped and keep all"
        return VaultLife(immutability="Unlocked"), said


def _restore_settings(
    connection: Connection, vault_id: str, life: VaultLife, logged: State
) -> None:
    """The vault's soft delete, unless somebody has set it since; and its immutability (``logged``:
    as the log has it), for an import takes no lock away."""
    row = vaults.get_vault(connection, vault_id)
    if row is None:
        return
    state = stronger(stronger(row.immutability, read_state(life.immutability)), logged)
    vaults.change_vault(connection, vault_id, immutability=state)
    if not life.soft_delete or stored_in(row.properties):
        return
    settings = written(read_settings(life.soft_delete))
    inner = dict(row.properties.get("properties") or {})
    inner["securitySettings"] = {"softDeleteSettings": settings}
    vaults.change_vault(connection, vault_id, properties={**row.properties, "properties": inner})


def _as_it_stood(item: ItemRow, stood: ItemLife | None, now: datetime) -> ItemRow:
    """The item as the vault knows it. The days of a deletion that have passed are believed, for
    they are asked for again on the clock: it goes a whole period after now, or later."""
    if stood is None:
        return item
    if stood.deleted_at_ns is None:
        suspended = stood.state == "BackupsSuspended" and item.policy_id is not None
        return replace(item, protection_state=stood.state if suspended else item.protection_state)
    deleted_at = min(from_ns(stood.deleted_at_ns), now)
    days = max(stood.soft_delete_days or MOST_DAYS, LEAST_DAYS)
    again = purge_time(now, days, item.latest_point_at)
    before = from_ns(stood.purge_at_ns) if stood.purge_at_ns is not None else again
    return replace(
        item,
        policy_id=None,
        deleted_at=deleted_at,
        purge_at=max(before, again),
        days_deleted=(now - deleted_at).days,
        soft_delete_days=days,
    )


def _container(
    connection: Connection, ledger: Ledger, vault_id: str, item_key: str, document: dict[str, Any]
) -> str:
    name = item_key.partition("/")[0]
    found = containers.find_container(connection, vault_id, name)
    if found is not None:
        return found.id
    described = document.get("container") or {}
    now = ledger.clock.now()
    row = ContainerRow(
        id=new_id(ledger.rng),
        vault_id=vault_id,
        name_key=name.lower(),
        name=name,
        friendly_name=str(described.get("friendlyName") or name.rpartition(";")[2]),
        management_type=str(described.get("managementType") or "MAB"),
        platform=str(described.get("platform") or "linux"),
        registration_status="Imported",
        agent_id=None,
        properties={},
        registered_at=now,
        updated_at=now,
    )
    containers.add_container(connection, row)
    return row.id


def _policy(
    connection: Connection, ledger: Ledger, vault_id: str, described: dict[str, Any] | None
) -> str | None:
    """The id of the policy of that name, added when there is none."""
    if not described:
        return None
    name = str(described["name"])
    found = policies.find_policy(connection, vault_id, name)
    if found is not None:
        return found.id
    now = ledger.clock.now()
    row = PolicyRow(
        id=new_id(ledger.rng),
        vault_id=vault_id,
        name_key=name.lower(),
        name=name,
        management_type=str(described["managementType"]),
        properties=dict(described["properties"]),
        etag=new_id(ledger.rng),
        created_at=now,
        updated_at=now,
    )
    policies.add_policy(connection, row)
    return row.id


def _item_row(
    ledger: Ledger,
    vault_id: str,
    container_id: str,
    policy_id: str | None,
    item_key: str,
    newest: RecoveryPointRecord,
) -> ItemRow:
    document = newest.item_document
    name = str(document.get("name") or item_key.partition("/")[2])
    now = ledger.clock.now()
    return ItemRow(
        id=new_id(ledger.rng),
        vault_id=vault_id,
        container_id=container_id,
        policy_id=policy_id,
        name_key=name.lower(),
        name=name,
        friendly_name=str(document.get("friendlyName") or name.rpartition(";")[2]),
        item_key=item_key,
        workload_type=str(document.get("workloadType") or "FileFolder"),
        protection_state="ProtectionStopped",
        include_paths=list(document.get("includePaths") or []),
        exclude_globs=list(document.get("excludeGlobs") or []),
        properties=dict(document.get("properties") or {}),
        missed_ranges=[],
        next_run_at=None,
        last_slot_at=None,
        last_backup_at=newest.time,
        last_backup_status="Completed",
        last_job_id=None,
        last_error_code="",
        latest_point_id=newest.rp_id,
        latest_point_at=newest.time,
        etag=new_id(ledger.rng),
        created_at=now,
        updated_at=now,
    )
