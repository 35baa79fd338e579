"""Opening a virtual machine's recovery point for reading on an operator's machine.

The password is derived, never stored: from the installation's key and the recovery's id. It opens
one point, read only, until the recovery ends.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from base64 import b32encode
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from holdfast.catalog import items, recoveries
from holdfast.catalog.items import ItemRow
from holdfast.catalog.recoveries import RecoveryRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import AuthenticationError, NotFoundError, UsageError
from holdfast.services.items import find_item
from holdfast.services.platform import Platform
from holdfast.services.recovery import find_point
from holdfast.vaultstore.vault import Vault
from holdfast.workloads.files.standalone import PointSource
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.point_disk import PointDisk

LIFE = timedelta(hours=12)
PASSWORD_CHARS = 15  # as long as Azure's command line takes it to be
DISKS_KEPT = 8
CACHE_BYTES = 32 * 1024 * 1024  # of each disk
MAX_READ = 4 * 1024 * 1024


def provision(
    platform: Platform, vault: VaultRow, names: tuple[str, str], point: str, by: str
) -> RecoveryRow:
    """Open a point for twelve hours. UsageError (UserErrorNotSupported), NotFoundError."""
    now = platform.now()
    with platform.catalog.write() as connection:
        _, item = find_item(connection, vault, *names)
        _check_machine(item)
        found = find_point(connection, vault, item, point)
        row = RecoveryRow(
            id=platform.new_id(),
            vault_id=vault.id,
            item_id=item.id,
            rp_id=found.rp_id,
            created_by=by,
            created_at=now,
            expires_at=now + LIFE,
            ended_at=None,
        )
        recoveries.add_recovery(connection, row)
    return row


def revoke(platform: Platform, vault: VaultRow, names: tuple[str, str], point: str) -> int:
    """Close a point for everybody it is open to; how many those are. UsageError
    (UserErrorNotSupported), NotFoundError."""
    with platform.catalog.write() as connection:
        _, item = find_item(connection, vault, *names)
        _check_machine(item)
        found = find_point(connection, vault, item, point)
        return recoveries.end_recoveries(connection, item.id, found.rp_id, platform.now())


def _check_machine(item: ItemRow) -> None:
    if item.workload_type != WORKLOAD:
        raise UsageError(
            f"{item.friendly_name} is no virtual machine",
            code="UserErrorNotSupported",
            hint="browse and restore its files: holdfast recovery-point browse",
        )


def password_of(platform: Platform, recovery_id: str) -> str:
    """Small letters and digits."""
    key = platform.vaults.platform_key
    made = hmac.new(key, b"item recovery " + recovery_id.encode(), hashlib.sha256).digest()
    return b32encode(made).decode().lower()[:PASSWORD_CHARS]


def enter(platform: Platform, recovery_id: str, password: str) -> RecoveryRow:
    """A recovery that is open, for who has its password. AuthenticationError
    (RecoveryNotOpen)."""
    with platform.catalog.read() as connection:
        row = recoveries.get_recovery(connection, recovery_id)
        item = items.get_item(connection, row.item_id) if row is not None else None
    right = hmac.compare_digest(password_of(platform, recovery_id), password)
    there = row is not None and item is not None and item.deleted_at is None
    if row is None or not right or not there or row.ended_at or row.expires_at <= platform.now():
        raise AuthenticationError(
            "the recovery point is not open for reading, or not with this password",
            code="RecoveryNotOpen",
            hint="it is open for 12 hours or until it is unmounted: az backup restore files "
            "mount-rp gives a new script and password",
        )
    return row


@dataclass(frozen=True, slots=True)
class OpenDisk:
    lun: int
    size: int


@dataclass(slots=True, eq=False)
class _Kept:
    """A disk that is open, or being opened. ``users``: who read it, or wait for it."""

    disk: Future[PointDisk] = field(default_factory=Future)
    users: int = 0


class OpenPoints:
    """Disks of points as they are read. Of those nobody reads right now, the least recently used
    are closed. Thread safe: opening one keeps nobody from reading others."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lock = threading.Lock()
        self._disks: OrderedDict[tuple[str, str, int], _Kept] = OrderedDict()

    def disks(self, row: RecoveryRow) -> list[OpenDisk]:
        """IntegrityError, NotFoundError (RecoveryPointMissing)."""
        return [OpenDisk(one.lun, one.size) for one in self._point(row).disks]

    def read(self, row: RecoveryRow, lun: int, offset: int, length: int) -> bytes:
        """b"" when all of it is zeros. UsageError (InvalidRange), NotFoundError (DiskNotFound),
        IntegrityError."""
        if not 0 < length <= MAX_READ:
            raise UsageError(
                f"1 to {MAX_READ} bytes are read at a time",
                code="InvalidRange",
                hint="ask for less, more often",
            )
        found = bytearray(length)
        with self._disk(row, lun) as disk:
            disk.read_into(offset, memoryview(found))
        return b"" if found.count(0) == length else bytes(found)

    def _point(self, row: RecoveryRow) -> MachinePoint:
        vault: Vault = self._platform.vaults.open(row.vault_id)
        record = vault.recovery_point(row.rp_id)
        return MachinePoint(PointSource(vault, record, {}))

    @contextmanager
    def _disk(self, row: RecoveryRow, lun: int) -> Iterator[PointDisk]:
        """Open as long as it is read."""
        key = (row.vault_id, row.rp_id, lun)
        with self._lock:
            first = key not in self._disks
            kept = self._disks.setdefault(key, _Kept())
            kept.users += 1
            self._disks.move_to_end(key)
        try:
            if first:
                self._open(row, key, kept)
            yield kept.disk.result()
        finally:
            with self._lock:
                kept.users -= 1
                surplus = self._surplus()
            for old in surplus:
                threading.Thread(target=old.close, daemon=True).start()

    def _open(self, row: RecoveryRow, key: tuple[str, str, int], kept: _Kept) -> None:
        """Who comes later tries again when it fails."""
        try:
            disk = PointDisk(self._point(row), key[2], cache_bytes=CACHE_BYTES)
        except BaseException as error:
            with self._lock:
                del self._disks[key]
            kept.disk.set_exception(error)
            raise
        kept.disk.set_result(disk)

    def _surplus(self) -> list[PointDisk]:
        """Disks to close, taken out. Caller holds the lock."""
        idle = [key for key, kept in self._disks.items() if not kept.users]
        most = max(0, len(self._disks) - DISKS_KEPT)
        return [self._disks.pop(key).disk.result() for key in idle[:most]]


def machine_name(platform: Platform, row: RecoveryRow) -> str:
    with platform.catalog.read() as connection:
        item = items.get_item(connection, row.item_id)
    return item.friendly_name if item is not None else ""


def find_recovery(platform: Platform, recovery_id: str, rp_id: str) -> RecoveryRow:
    """One of a point. NotFoundError (OperationNotFound)."""
    with platform.catalog.read() as connection:
        row = recoveries.get_recovery(connection, recovery_id)
    if row is None or row.rp_id != rp_id:
        raise NotFoundError(
            f"no recovery {recovery_id[:100]} was opened of this point",
            code="OperationNotFound",
            hint="open the point again: az backup restore files mount-rp",
        )
    return row
