"""Restoring virtual machines: which disks go where, refused before any job when they cannot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

from sqlalchemy import Connection

from holdfast.catalog import containers
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.points import PointRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import backups_run
from holdfast.domain.virtual_machines import OS_DISK_LUN, check_machine_name, read_luns
from holdfast.errors import ConflictError, NotFoundError, UsageError
from holdfast.jobs.machine_work import host_of
from holdfast.ports.vm_tasks import DiskFiles, Format, NewMachine, ReplaceDisks
from holdfast.services.accounts import AccountView, account_of_id
from holdfast.services.items import find_item
from holdfast.services.kept_copies import LOCAL_ONLY
from holdfast.services.machine_items import HOST
from holdfast.services.machines import find_machine
from holdfast.services.platform import Platform
from holdfast.services.point_jobs import submit_on_point
from holdfast.services.recovery import find_any_point

Body = dict[str, Any]
KINDS = ("AlternateLocation", "OriginalLocation", "RestoreDisks")
FORMATS: tuple[str, ...] = get_args(Format)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """``host``: the container that does it; ``elsewhere``: it is not the machine's own;
    ``safety``: a recovery point of the machine as it is is made before. ``keys``: those of its
    encrypted volumes are put into the host's key vault. ``local``: the token of the host's own
    copy, when the point has nothing else."""

    item: ItemRow
    point: PointRow
    host: ContainerRow
    target: NewMachine | ReplaceDisks | DiskFiles
    luns: tuple[int, ...]
    account: str
    elsewhere: bool
    safety: bool = False
    keys: bool = False
    local: str = ""


def plan_restore(
    platform: Platform,
    vault: VaultRow,
    names: tuple[str, str],
    point: str,
    properties: Body,
) -> RestorePlan:
    """What a body of kind IaasVMRestoreRequest asks for. ``names``: container and item.

    UsageError (UserErrorNotSupported, StorageAccountRequired, InvalidStorageAccount,
    InvalidDiskList, InvalidFormat, InvalidName, InvalidRestoreKeys, UserErrorDisksExcluded);
    NotFoundError;
    ConflictError (UserErrorVmNotShutDown, UserErrorTargetVmExists, UserErrorVmClaimedByTwoHosts,
    UserErrorVmMoved, TargetHostUnknown, SafetyPointNotPossible, RecoveryPointElsewhere)."""
    kind = properties.get("recoveryType") or "AlternateLocation"
    if kind not in KINDS:
        raise UsageError(
            f"recoveryType {str(kind)[:100]!r} is not served for virtual machines",
            code="UserErrorNotSupported",
            hint=f"one of {', '.join(KINDS)}",
        )
    keys = _keys(properties, kind)
    return replace(_plan_kind(platform, vault, names, point, properties, kind), keys=keys)


def _keys(properties: Body, kind: str) -> bool:
    """Whether keys are put back: by default with a machine, and with its disks alone when asked;
    Azure's clients ask by ``encryptionDetails``. UsageError (InvalidRestoreKeys)."""
    ours = properties.get("holdfast") or {}
    asked = ours.get("restoreKeys") if isinstance(ours, dict) else None
    if asked is None:
        details = properties.get("encryptionDetails")
        enabled = isinstance(details, dict) and details.get("encryptionEnabled") is True
        return enabled or kind != "RestoreDisks"
    if isinstance(asked, bool):
        return asked
    raise UsageError(
        "restoreKeys must be true or false",
        code="InvalidRestoreKeys",
        hint="holdfast vm restore NAME --keys, or --no-keys",
    )


def _plan_kind(
    platform: Platform,
    vault: VaultRow,
    names: tuple[str, str],
    point: str,
    properties: Body,
    kind: str,
) -> RestorePlan:
    with platform.catalog.read() as connection:
        _, item = find_item(connection, vault, *names)
        found = find_any_point(connection, vault, item, point)
        luns = _luns(properties, found, kind)
        account = _account(connection, vault, properties)
        own = containers.get_container(connection, str(item.properties.get(HOST) or ""))
        if kind == "OriginalLocation":
            host, target = _original(connection, item), ReplaceDisks()
            safety = _safety(item, properties)
            return replace(_plan(item, found, host, target, luns, None, own), safety=safety)
        if kind == "RestoreDisks":
            files = _files(properties, account)
            host = _needed(account).host
            return _plan(item, found, host, files, luns, account, own)
        new = _new_machine(connection, vault, properties, account)
        away = account.host if account is not None else own
        if away is None:
            raise ConflictError(
                f"the host of {item.friendly_name} is not registered any more",
                code="TargetHostUnknown",
                hint="say where with a storage account of another host",
            )
        return _plan(item, found, away, new, luns, account, own)


def _plan(
    item: ItemRow,
    point: PointRow,
    host: ContainerRow,
    target: NewMachine | ReplaceDisks | DiskFiles,
    luns: tuple[int, ...],
    account: AccountView | None,
    own: ContainerRow | None,
) -> RestorePlan:
    name = account.row.name if account is not None else ""
    elsewhere = own is None or own.id != host.id
    local = _local(point, host)
    return RestorePlan(item, point, host, target, luns, name, elsewhere, local=local)


def _local(point: PointRow, host: ContainerRow) -> str:
    """ConflictError (RecoveryPointElsewhere) for a point that another host alone has."""
    holder = point.details.get(LOCAL_ONLY)
    if holder is None or holder == host.id:
        return point.rp_id if holder else ""
    raise ConflictError(
        f"recovery point {point.rp_id} is not in the vault, and not on {host.friendly_name}",
        code="RecoveryPointElsewhere",
        hint="restore it on the machine's own host, or restore a point that is in the vault",
    )


def start_restore(platform: Platform, vault: VaultRow, plan: RestorePlan, by: str) -> str:
    """The job's id."""
    return submit_on_point(
        platform,
        vault,
        plan,
        by,
        luns=list(plan.luns),
        storageAccount=plan.account,
        safetyPoint=plan.safety,
        restoreKeys=plan.keys,
        localToken=plan.local,
    )


def _luns(properties: Body, point: PointRow, kind: str) -> tuple[int, ...]:
    """Disks to restore: all without a list; with an empty one the system's, as Azure's command line
    asks for it."""
    disks = (point.details.get("machine") or {}).get("disks") or []
    left_out = sorted(disk["lun"] for disk in disks if not disk["included"])
    if left_out and kind != "RestoreDisks":
        raise UsageError(
            f"disks with LUN {', '.join(map(str, left_out))} are not in this recovery point, so it "
            "makes no whole machine",
            code="UserErrorDisksExcluded",
            hint="restore its disks: --disks-to STORAGE (recoveryType RestoreDisks)",
        )
    asked = properties.get("restoreDiskLunList")
    if asked is None:
        return ()
    known = {disk["lun"] for disk in disks if disk["included"]}
    luns = [OS_DISK_LUN] if asked == [] else read_luns(asked, OS_DISK_LUN)
    if luns is None or (disks and not set(luns) <= known):
        raise UsageError(
            "the list of disks to restore names disks that are not in the recovery point",
            code="InvalidDiskList",
            hint="see its disks: holdfast recovery-point show, or az backup recoverypoint show",
        )
    if kind == "AlternateLocation" and OS_DISK_LUN not in luns:
        raise UsageError(
            "a new machine needs the system's disk",
            code="InvalidDiskList",
            hint=f"add LUN {OS_DISK_LUN}, or restore disks only",
        )
    return tuple(luns)


def _account(connection: Connection, vault: VaultRow, properties: Body) -> AccountView | None:
    given = properties.get("storageAccountId")
    if not given:
        return None
    view = account_of_id(connection, vault.subscription_id, str(given))
    if view.vault.id != vault.id:
        raise UsageError(
            f"storage account {view.row.name} is on a host of vault {view.vault.name}",
            code="InvalidStorageAccount",
            hint="recovery points are restored by hosts of their own vault",
        )
    return view


def _needed(account: AccountView | None) -> AccountView:
    if account is None:
        raise UsageError(
            "restoring disks needs a storage account to put them into",
            code="StorageAccountRequired",
            hint="name a folder: holdfast storage-account create NAME --container HOST --path DIR",
        )
    return account


def _original(connection: Connection, item: ItemRow) -> ContainerRow:
    report, host = host_of(connection, item)
    if report.power_state != "stopped":
        raise ConflictError(
            f"virtual machine {item.friendly_name} is {report.power_state}: its disks cannot be "
            "replaced",
            code="UserErrorVmNotShutDown",
            hint="shut it down, wait until holdfast vm show says stopped, then restore again",
        )
    return host


def _safety(item: ItemRow, properties: Body) -> bool:
    """Whether a recovery point is made of the disks before they are replaced. ConflictError
    (SafetyPointNotPossible) when it is wanted, as by default, and protection is stopped."""
    ours = properties.get("holdfast") or {}
    wanted = not isinstance(ours, dict) or ours.get("safetyPoint") is not False
    if wanted and not backups_run(item.protection_state):
        raise ConflictError(
            f"protection of {item.friendly_name} is stopped, so no recovery point of its disks as "
            "they are can be made before they are replaced",
            code="SafetyPointNotPossible",
            hint="resume its protection, or restore without one: holdfast vm restore NAME "
            "--replace --no-safety-point",
        )
    return wanted


def _files(properties: Body, account: AccountView | None) -> DiskFiles:
    ours = properties.get("holdfast") or {}
    form = ours.get("format", "qcow2") if isinstance(ours, dict) else None
    if form not in FORMATS:
        raise UsageError(
            f"{str(form)[:100]!r} is no format of disks",
            code="InvalidFormat",
            hint=f"one of {', '.join(FORMATS)}",
        )
    return DiskFiles(folder=_needed(account).row.path, format=form)


def _new_machine(
    connection: Connection, vault: VaultRow, properties: Body, account: AccountView | None
) -> NewMachine:
    wanted = str(properties.get("targetVirtualMachineId") or "")
    ours = properties.get("holdfast") or {}
    network = str(ours.get("network") or "") if isinstance(ours, dict) else ""
    name = check_machine_name(wanted.rstrip("/").rpartition("/")[2])
    try:
        find_machine(connection, vault.subscription_id, vault.group_key, name)
    except NotFoundError:
        folder = account.row.path if account is not None else None
        return NewMachine(name=name, folder=folder, network=network[:100])
    raise ConflictError(
        f"there is a virtual machine {name} already",
        code="UserErrorTargetVmExists",
        hint="give the new one another name",
    )
