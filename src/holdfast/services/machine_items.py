"""What a protected item's body says of a virtual machine, and which machine it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, places
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.consistency import AS_POLICY, LEAST, WISH, check_reachable, own_wish
from holdfast.domain.consistency import KEY as CONSISTENCY
from holdfast.domain.lifecycle import CONTAINER_SOFT_DELETED
from holdfast.domain.virtual_machines import (
    MANAGEMENT,
    MAX_LUN,
    ConsistencyWish,
    Exclusion,
    claim_error,
    container_name,
    item_name,
    level_of,
    names_in,
    read_luns,
)
from holdfast.errors import NotFoundError, UsageError
from holdfast.services.machines import MachineView, find_machine
from holdfast.services.platform import Platform

Body = dict[str, Any]
UUID, HOST = "uuid", "hostContainerId"  # of an item's properties
EXCLUSION = "diskExclusion"
THROTTLE = "throttleBytesPerSecond"


@dataclass(frozen=True, slots=True)
class MachinePart:
    """What an item of a virtual machine holds beside what all items have. ``host``: id of the
    container of the host it was protected on."""

    uuid: str
    host: str
    exclusion: Exclusion | None
    consistency: ConsistencyWish
    includes: list[str] = field(default_factory=list)
    excludes: list[str] = field(default_factory=list)

    def properties(self, old: Body) -> Body:
        """``old`` properties of an item with these as they are now."""
        kept = {name: value for name, value in old.items() if name != EXCLUSION}
        ours: Body = {
            UUID: self.uuid,
            HOST: self.host,
            CONSISTENCY: {
                WISH: self.consistency.wish,
                LEAST: self.consistency.minimum or None,
            },
        }
        if self.exclusion is not None:
            ours[EXCLUSION] = {
                "diskLunList": sorted(self.exclusion.luns),
                "isInclusionList": self.exclusion.inclusive,
            }
        return kept | ours


def exclusion_of(properties: Body) -> Exclusion:
    """Which disks of an item are backed up."""
    found = properties.get(EXCLUSION)
    if not found:
        return Exclusion()
    return Exclusion(frozenset(found["diskLunList"]), bool(found["isInclusionList"]))


def read_machine_part(
    connection: Connection,
    vault: VaultRow,
    names: tuple[str, str],
    properties: Body,
    old: ItemRow | None,
    policy: PolicyRow,
) -> MachinePart:
    """``extendedProperties`` and ``holdfast`` of a body; what is left out stays as it was. The item
    is bound to the host that has the machine now. ``policy``: the one it is to have. UsageError
    (InvalidDiskList, InvalidConsistency); as ``services.machines.there`` for a machine that is not
    simply there and not protected yet."""
    view = _machine(connection, vault, names, old)
    uuid, host = _place(view, old, names[1])
    exclusion = _exclusion(properties, old)
    if exclusion is not None and view is not None and view.report is not None:
        _check_luns(exclusion, view)
    consistency = _consistency(properties, old)
    check_reachable(consistency, policy.properties, policy.name)
    return MachinePart(uuid, host, exclusion, consistency)


def _machine(
    connection: Connection, vault: VaultRow, names: tuple[str, str], old: ItemRow | None
) -> MachineView | None:
    try:
        return find_machine(connection, vault.subscription_id, *names, vault_id=vault.id)
    except NotFoundError:
        if old is not None:
            return None
        raise claim_error("Missing", names[1], ()) from None


def _place(view: MachineView | None, old: ItemRow | None, name: str) -> tuple[str, str]:
    """(uuid, host). A machine that one host has, whichever, is bound to it; a protected one that is
    not simply there stays bound as it was."""
    reports = view.reports if view is not None else ()
    if view is not None and len(reports) == 1:
        return view.row.uuid, reports[0].container_id
    if old is not None and old.properties.get(UUID):
        return str(old.properties[UUID]), str(old.properties.get(HOST) or "")
    hosts = view.host_names if view is not None else []
    raise claim_error("ClaimedTwice" if len(reports) > 1 else "Missing", name, hosts)


def _exclusion(properties: Body, old: ItemRow | None) -> Exclusion | None:
    """An ``extendedProperties`` overwrites what was there; without disks in it nothing is left
    out."""
    given = properties.get("extendedProperties")
    if given is None:
        kept = old.properties.get(EXCLUSION) if old is not None else None
        return exclusion_of({EXCLUSION: kept}) if kept else None
    asked = given.get("diskExclusionProperties") if isinstance(given, dict) else given
    if asked is None:
        return None
    luns = read_luns(asked.get("diskLunList"), 0) if isinstance(asked, dict) else None
    inclusive = asked.get("isInclusionList") if isinstance(asked, dict) else None
    if luns is None or not isinstance(inclusive, bool | None):
        raise UsageError(
            "the list of disks cannot be read",
            code="InvalidDiskList",
            hint=f"give LUNs of data disks, 0 to {MAX_LUN}; the system's disk is always backed up",
        )
    return Exclusion(frozenset(luns), bool(inclusive))


def _check_luns(exclusion: Exclusion, view: MachineView) -> None:
    known = {disk["lun"] for disk in view.reports[0].disks}
    unknown = sorted(exclusion.luns - known)
    if unknown:
        raise UsageError(
            f"{view.row.name} has no data disk with LUN {', '.join(map(str, unknown))}",
            code="InvalidDiskList",
            hint="see its disks: holdfast vm show NAME",
        )


def _consistency(properties: Body, old: ItemRow | None) -> ConsistencyWish:
    before = own_wish(old.properties if old is not None else {})
    ours = properties.get("holdfast") or {}
    asked = ours.get(CONSISTENCY) if isinstance(ours, dict) else None
    if not isinstance(asked, dict | None):
        raise UsageError(
            "consistency is not an object",
            code="InvalidConsistency",
            hint='send {"wish": "AppConsistent", "atLeast": "CrashConsistent"}',
        )
    wish, least = (asked or {}).get(WISH), (asked or {}).get(LEAST)
    found = before.wish if wish is None else level_of(str(wish))
    if least is None:
        return ConsistencyWish(found, before.minimum)
    given = str(least)
    return ConsistencyWish(found, "" if given.lower() == AS_POLICY else level_of(given))


def machine_names(container: str, item: str) -> tuple[str, str]:
    """(group, machine) that both names are of. UsageError (InvalidName)."""
    of_container, of_item = names_in(container), names_in(item)
    same = (
        of_container
        and of_item
        and [one.lower() for one in of_container] == [one.lower() for one in of_item]
    )
    if of_container is None or not same:
        raise UsageError(
            f"{container[:300]!r} and {item[:300]!r} are not the names of one virtual machine",
            code="InvalidName",
            hint="give IaasVMContainer;iaasvmcontainerv2;GROUP;NAME and VM;...;GROUP;NAME",
        )
    return of_container


def canonical(
    connection: Connection, vault: VaultRow, names: tuple[str, str]
) -> tuple[str, str, str]:
    """(container, item, machine) as they are written: the group as it was named first and the
    machine as its host names it, whatever case a client used."""
    group, machine = names
    held = places.get_group(connection, vault.subscription_id, group)
    try:
        known = find_machine(connection, vault.subscription_id, group, machine).row.name
    except NotFoundError:
        known = machine
    shown = held.name if held is not None else group
    return container_name(shown, known), item_name(shown, known), known


def holder_of(
    platform: Platform, connection: Connection, vault: VaultRow, names: tuple[str, str]
) -> ContainerRow:
    """The container of a virtual machine, made when it is protected first."""
    full, _, machine = canonical(connection, vault, names)
    row = containers.find_container(connection, vault.id, full)
    now = platform.now()
    if row is not None:
        if row.registration_status not in ("Registered", CONTAINER_SOFT_DELETED):
            containers.change_container(
                connection, row.id, registration_status="Registered", updated_at=now
            )
            row = replace(row, registration_status="Registered")
        return row
    row = ContainerRow(
        id=platform.new_id(),
        vault_id=vault.id,
        name_key=full.lower(),
        name=full,
        friendly_name=machine,
        management_type=MANAGEMENT,
        platform="",
        registration_status="Registered",
        agent_id=None,
        properties={},
        registered_at=now,
        updated_at=now,
    )
    containers.add_container(connection, row)
    return row
