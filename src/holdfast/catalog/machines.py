"""Virtual machines as they are named in ARM, and what hosts report of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import (
    Page,
    insert,
    insert_many,
    many,
    one,
    page,
    remove,
    selecting,
    update,
)


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A virtual machine of a vault. ``uuid``: the hypervisor's; ``name``: its name in ARM."""

    id: str
    vault_id: str
    uuid: str
    subscription_id: str
    group_key: str
    name_key: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A machine as one host (``container_id``) has it. ``disks``: {lun, name, sizeBytes, format,
    problem} each, by LUN; ``kept``: local copies of them, as ``ports.vm_tasks.KeptSeen`` has
    them."""

    container_id: str
    uuid: str
    vault_id: str
    name: str
    hypervisor: str
    power_state: str
    agent_state: str
    os_type: str
    processors: int
    memory_bytes: int
    disks: list[dict[str, Any]]
    tags: dict[str, str]
    kept: list[dict[str, Any]]
    reported_at: datetime


_C = t.virtual_machines.c
_ALL = selecting(t.virtual_machines, MachineRow)
_R = t.machine_reports.c
_REPORTS = selecting(t.machine_reports, ReportRow)


def add_machine(connection: Connection, row: MachineRow) -> None:
    insert(connection, t.virtual_machines, row)


def find_machine(
    connection: Connection, subscription: str, group: str, name: str
) -> MachineRow | None:
    """By its name in ARM, in any case."""
    query = _ALL.where(
        _C.subscription_id == subscription,
        _C.group_key == group.lower(),
        _C.name_key == name.lower(),
    )
    return one(connection, MachineRow, query)


def machine_of_uuid(connection: Connection, vault_id: str, uuid: str) -> MachineRow | None:
    return one(connection, MachineRow, _ALL.where(_C.vault_id == vault_id, _C.uuid == uuid))


def machines_of(connection: Connection, vault_id: str, uuids: Collection[str]) -> list[MachineRow]:
    query = _ALL.where(_C.vault_id == vault_id, _C.uuid.in_(sorted(uuids)))
    return many(connection, MachineRow, query)


def rename_machine(connection: Connection, machine_id: str, name: str) -> int:
    values = {"name": name, "name_key": name.lower()}
    return update(connection, t.virtual_machines, values, _C.id == machine_id)


def names_taken(connection: Connection, subscription: str, group_key: str) -> set[str]:
    """Names of a group's machines, in lower case."""
    query = select(_C.name_key).where(_C.subscription_id == subscription, _C.group_key == group_key)
    return set(connection.execute(query).scalars())


def page_machines(
    connection: Connection,
    subscription: str,
    *,
    group: str | None = None,
    vault_id: str | None = None,
    limit: int = 100,
    token: str = "",
) -> Page[MachineRow]:
    """Of a subscription, one of its groups, or a vault; by group and name."""
    query = _ALL.where(_C.subscription_id == subscription)
    if group is not None:
        query = query.where(_C.group_key == group.lower())
    if vault_id is not None:
        query = query.where(_C.vault_id == vault_id)
    keys = [_C.group_key, _C.name_key]
    return page(connection, MachineRow, query, keys=keys, limit=limit, token=token)


def unreported_machines(connection: Connection, vault_id: str) -> list[MachineRow]:
    """A vault's machines that no host reports."""
    reported = exists().where(_R.vault_id == _C.vault_id, _R.uuid == _C.uuid)
    return many(connection, MachineRow, _ALL.where(_C.vault_id == vault_id, ~reported))


def remove_machine(connection: Connection, machine_id: str) -> int:
    return remove(connection, t.virtual_machines, _C.id == machine_id)


def put_reports(connection: Connection, container_id: str, rows: Sequence[ReportRow]) -> None:
    """All machines of a host, in place of those it reported before."""
    remove(connection, t.machine_reports, _R.container_id == container_id)
    names = ReportRow.__slots__
    insert_many(
        connection,
        t.machine_reports,
        [{name: getattr(row, name) for name in names} for row in rows],
    )


def reports_of_host(connection: Connection, container_id: str) -> list[ReportRow]:
    query = _REPORTS.where(_R.container_id == container_id).order_by(_R.uuid)
    return many(connection, ReportRow, query)


def reports_of(connection: Connection, vault_id: str, uuid: str) -> list[ReportRow]:
    """What hosts of a vault report of one machine."""
    query = _REPORTS.where(_R.vault_id == vault_id, _R.uuid == uuid).order_by(_R.container_id)
    return many(connection, ReportRow, query)


def reports_by_machine(
    connection: Connection, rows: Iterable[MachineRow]
) -> dict[str, list[ReportRow]]:
    """Machine id -> what hosts of its vault report of it, for a page at once."""
    by_key = {(row.vault_id, row.uuid): row.id for row in rows}
    if not by_key:
        return {}
    vaults, uuids = zip(*by_key, strict=True)
    query = _REPORTS.where(_R.vault_id.in_(set(vaults)), _R.uuid.in_(set(uuids)))
    found: dict[str, list[ReportRow]] = {}
    for report in many(connection, ReportRow, query.order_by(_R.container_id)):
        owner = by_key.get((report.vault_id, report.uuid))
        if owner is not None:
            found.setdefault(owner, []).append(report)
    return found


def remove_reports(connection: Connection, container_id: str) -> int:
    return remove(connection, t.machine_reports, _R.container_id == container_id)


def remove_machines_of_vault(connection: Connection, vault_id: str) -> int:
    remove(connection, t.machine_reports, _R.vault_id == vault_id)
    return remove(connection, t.virtual_machines, _C.vault_id == vault_id)
