"""The import job: rebuild a vault's containers, policies, items and points from its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, points, policies
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.policies import PolicyRow
from holdfast.domain.default_policies import default_policies
from holdfast.jobs import outcome
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.facts import point_row
from holdfast.jobs.ledger import Ledger
from holdfast.jobs.outcome import Outcome
from holdfast.vaultstore.values import RecoveryPointRecord


class ImportProcedure:
    """Every row is written unless it exists, so the job may run any number of times; policies every
    vault has are added where the points know none of that name. Items come
    back stopped with their data retained, until an agent is enrolled and protection resumed."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("rebuild", self._rebuild),)

    def _rebuild(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        vault = self._context.open_vault(job.vault_id)
        vault.refresh()
        by_item: dict[str, list[RecoveryPointRecord]] = {}
        for record in vault.recovery_points():
            by_item.setdefault(record.item_key, []).append(record)
        for item_key, records in by_item.items():
            with self._context.catalog.write() as connection:
                _rebuild_item(connection, self._context.ledger, job.vault_id, item_key, records)
        with self._context.catalog.write() as connection:
            for name, properties in default_policies().items():
                kind = properties["backupManagementType"]
                described = {"name": name, "managementType": kind, "properties": properties}
                _policy(connection, self._context.ledger, job.vault_id, described)
        count = sum(map(len, by_item.values()))
        result = {"items": len(by_item), "recoveryPoints": count}
        note = ["imported", f"{len(by_item)} items with {count} recovery points"]
        return outcome.done(result, note)

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
) -> None:
    newest = max(records, key=lambda record: record.rp_id)
    document = newest.item_document
    container_id = _container(connection, ledger, vault_id, item_key, document)
    policy_id = _policy(connection, ledger, vault_id, document.get("policy"))
    item = items.find_item_by_key(connection, vault_id, item_key)
    if item is None:
        item = _item_row(ledger, vault_id, container_id, policy_id, item_key, newest)
        items.add_item(connection, item)
    for record in records:
        points.put_point(connection, point_row(record, vault_id, item.id))


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
