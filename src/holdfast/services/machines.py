"""Virtual machines: what a host's agent reports of its own, and how they are named and found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection

from holdfast.catalog import accounts, containers, items, listing, machines, vaults
from holdfast.catalog.containers import AgentRow, ContainerRow
from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.items import ItemRow
from holdfast.catalog.machines import MachineRow, ReportRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.virtual_machines import (
    Claim,
    claim_error,
    claim_of,
    container_name,
    free_name,
    names_in,
    resource_name,
)
from holdfast.errors import NotFoundError, UsageError
from holdfast.ports.clock import Clock, Random
from holdfast.ports.vm_tasks import Inventory, MachineSeen
from holdfast.services.platform import Platform

HAS_MACHINES, WANTED = "virtualMachines", "inventoryWanted"  # of an agent's properties


@dataclass(frozen=True, slots=True)
class MachineView:
    """A machine with what belongs to it. ``hosts``: containers that report it, in the order of
    ``reports``; ``item``: its protected item, if it has one."""

    row: MachineRow
    vault: VaultRow
    reports: Sequence[ReportRow]
    hosts: Sequence[ContainerRow]
    item: ItemRow | None

    @property
    def claim(self) -> Claim:
        bound = self.item.properties.get("hostContainerId") if self.item is not None else None
        return claim_of([report.container_id for report in self.reports], bound)

    @property
    def report(self) -> ReportRow | None:
        """What is shown of it: of several hosts' the first."""
        return self.reports[0] if self.reports else None

    @property
    def host_names(self) -> list[str]:
        return [host.friendly_name for host in self.hosts]


@dataclass(frozen=True, slots=True)
class Moved:
    """Machines that a host reports for the first time, and no more, by their own names."""

    appeared: Sequence[str] = ()
    gone: Sequence[str] = ()


def take_inventory(
    catalog: Catalog, clock: Clock, rng: Random, agent: AgentRow, inventory: Inventory
) -> Moved:
    """Put what an agent reports of its own host in place of what it reported before. UsageError
    (InvalidInventory)."""
    _check(inventory)
    now = clock.now()
    with catalog.write() as connection:
        vault = vaults.get_vault(connection, agent.vault_id)
        if vault is None or vault.deleted_at is not None:
            return Moved()
        vaults.lock_vault(connection, vault.id)
        rows = [_report(agent, seen, now) for seen in inventory.virtual_machines]
        moved = _moved(machines.reports_of_host(connection, agent.container_id), rows)
        machines.put_reports(connection, agent.container_id, rows)
        _name(connection, vault, agent.host, inventory.virtual_machines, rng, now)
        _forget(connection, vault)
        known = {**agent.properties, HAS_MACHINES: True, WANTED: False}
        if known != agent.properties:
            containers.change_agent(connection, agent.id, properties=known)
    return moved


def _moved(before: Sequence[ReportRow], after: Sequence[ReportRow]) -> Moved:
    known, now = {row.uuid for row in before}, {row.uuid for row in after}
    return Moved(
        appeared=[row.name for row in after if row.uuid not in known],
        gone=[row.name for row in before if row.uuid not in now],
    )


def _check(inventory: Inventory) -> None:
    uuids = [seen.uuid for seen in inventory.virtual_machines]
    if len(set(uuids)) != len(uuids):
        raise _invalid("two virtual machines have one UUID")
    for seen in inventory.virtual_machines:
        luns = [disk.lun for disk in seen.disks]
        if len(set(luns)) != len(luns):
            raise _invalid(f"two disks of {seen.name} have one LUN")


def _invalid(why: str) -> UsageError:
    return UsageError(
        f"the inventory contradicts itself: {why}",
        code="InvalidInventory",
        hint="give each virtual machine of the host a UUID of its own",
    )


def _report(agent: AgentRow, seen: MachineSeen, now: datetime) -> ReportRow:
    disks = sorted(seen.disks, key=lambda disk: disk.lun)
    return ReportRow(
        container_id=agent.container_id,
        uuid=seen.uuid,
        vault_id=agent.vault_id,
        name=seen.name,
        hypervisor=seen.hypervisor,
        power_state=seen.power_state,
        agent_state=seen.agent_state,
        os_type=seen.os_type,
        processors=seen.processors,
        memory_bytes=seen.memory_bytes,
        disks=[msgspec.to_builtins(disk) for disk in disks],
        tags=dict(seen.tags),
        kept=[msgspec.to_builtins(one) for one in seen.kept],
        reported_at=now,
    )


def _name(
    connection: Connection,
    vault: VaultRow,
    host: str,
    seen: Sequence[MachineSeen],
    rng: Random,
    now: datetime,
) -> None:
    """Name machines seen for the first time, and follow the renaming of those that are not
    protected: a protected one keeps the name its item has."""
    known = {
        row.uuid: row
        for row in machines.machines_of(connection, vault.id, [one.uuid for one in seen])
    }
    taken = machines.names_taken(connection, vault.subscription_id, vault.group_key)
    items_by_uuid: dict[str, str] | None = None
    for one in seen:
        row, wanted = known.get(one.uuid), resource_name(one.name, one.uuid)
        if row is None:
            if items_by_uuid is None:
                items_by_uuid = _names_of_items(connection, vault)
            before = items_by_uuid.get(one.uuid, "")
            name = free_name(wanted, host, taken)
            name = before if before and before.lower() not in taken else name
            _add(connection, vault, one.uuid, name, new_id(rng), now)
        elif row.name != wanted and wanted.lower() not in taken and not _at_host(row, wanted, host):
            if _is_protected(connection, row):
                continue
            name = wanted
            machines.rename_machine(connection, row.id, name)
        else:
            continue
        taken.add(name.lower())


def _at_host(row: MachineRow, wanted: str, host: str) -> bool:
    """Whether it has its host's name added because another had its own."""
    return row.name == free_name(wanted, host, {wanted.lower()})


def _add(
    connection: Connection, vault: VaultRow, uuid: str, name: str, row_id: str, now: datetime
) -> None:
    row = MachineRow(
        id=row_id,
        vault_id=vault.id,
        uuid=uuid,
        subscription_id=vault.subscription_id,
        group_key=vault.group_key,
        name_key=name.lower(),
        name=name,
        created_at=now,
    )
    machines.add_machine(connection, row)


def _names_of_items(connection: Connection, vault: VaultRow) -> dict[str, str]:
    """UUID to name, of machines protected before (an imported vault knows them by their items)."""
    found = {}
    for item in items.items_of_workload(connection, vault.id, "VM"):
        named = names_in(item.name)
        if named is not None and named[0].lower() == vault.group_key:
            found[str(item.properties.get("uuid"))] = named[1]
    return found


def _is_protected(connection: Connection, row: MachineRow) -> bool:
    name = container_name(row.group_key, row.name)
    return containers.find_container(connection, row.vault_id, name) is not None


def _forget(connection: Connection, vault: VaultRow) -> None:
    """Machines that no host reports are gone, unless they have recovery points to tell of."""
    for row in machines.unreported_machines(connection, vault.id):
        if not _is_protected(connection, row):
            machines.remove_machine(connection, row.id)


def leave_machines(connection: Connection, vault_id: str, container_id: str) -> None:
    """A host goes: its reports and the folders named on it go with it."""
    machines.remove_reports(connection, container_id)
    accounts.remove_accounts_on(connection, container_id)
    vault = vaults.get_vault(connection, vault_id)
    if vault is not None:
        _forget(connection, vault)


def ask_for_inventory(platform: Platform, vault: VaultRow) -> list[str]:
    """Have the vault's hosts report their virtual machines anew; ids of their agents."""
    asked = []
    with platform.catalog.write() as connection:
        for agent in containers.agents_of_vault(connection, vault.id):
            if agent.properties.get(HAS_MACHINES):
                wanted = {**agent.properties, WANTED: True}
                containers.change_agent(connection, agent.id, properties=wanted)
                asked.append(agent.id)
    return asked


def view_machines(connection: Connection, rows: Iterable[MachineRow]) -> list[MachineView]:
    """Machines with what belongs to them, by a few statements; those of deleted vaults are left
    out."""
    found = list(rows)
    reports = machines.reports_by_machine(connection, found)
    hosts = listing.containers_by_id(
        connection, (one.container_id for some in reports.values() for one in some)
    )
    owners = listing.vaults_by_id(connection, (row.vault_id for row in found))
    protected = _items_of(connection, found)
    views = []
    for row in found:
        vault = owners.get(row.vault_id)
        if vault is None or vault.deleted_at is not None:
            continue
        own = [one for one in reports.get(row.id, ()) if one.container_id in hosts]
        named = [hosts[one.container_id] for one in own]
        views.append(MachineView(row, vault, own, named, protected.get(row.id)))
    return views


def _items_of(connection: Connection, rows: Sequence[MachineRow]) -> dict[str, ItemRow]:
    """Machine id to its protected item."""
    found: dict[str, ItemRow] = {}
    for vault_id in {row.vault_id for row in rows}:
        own = {
            container_name(row.group_key, row.name).lower(): row.id
            for row in rows
            if row.vault_id == vault_id
        }
        holders = containers.containers_named(connection, vault_id, own)
        by_holder = items.items_of_containers(connection, [one.id for one in holders.values()])
        for key, holder in holders.items():
            if holder.id in by_holder:
                found[own[key]] = by_holder[holder.id]
    return found


def find_machine(
    connection: Connection, subscription: str, group: str, name: str, vault_id: str | None = None
) -> MachineView:
    """A machine by its name in ARM; with ``vault_id`` of that vault only. NotFoundError
    (ResourceNotFound)."""
    row = machines.find_machine(connection, subscription, group, name)
    views = view_machines(connection, [row]) if row is not None else []
    if not views or vault_id not in (None, views[0].row.vault_id):
        raise NotFoundError(
            f"The Resource 'Microsoft.Compute/virtualMachines/{name}' under resource group "
            f"'{group}' was not found.",
            hint="see which virtual machines hosts report: holdfast vm list",
        )
    return views[0]


def there(view: MachineView) -> tuple[ReportRow, ContainerRow]:
    """What its one host reports of a machine. ConflictError (UserErrorVmClaimedByTwoHosts,
    UserErrorVmMoved), NotFoundError (UserErrorVmNotFoundV2)."""
    if view.claim != "Present":
        raise claim_error(view.claim, view.row.name, view.host_names)
    return view.reports[0], view.hosts[0]
