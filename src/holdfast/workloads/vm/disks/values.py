"""What a backup of disks is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from holdfast.domain.work_hours import WorkHours
from holdfast.ports.block_device import BlockSource
from holdfast.vaultstore.disk_pages import GRID_EXPONENT
from holdfast.vaultstore.machine_keys import MachineKey
from holdfast.vaultstore.root import Finding
from holdfast.workloads.transport import BackupTransport, RestoreTransport

MACHINE_STREAM = "machine.json"
MAX_MACHINE_BYTES = 1 << 20
MAX_DISKS = 256


OS_DISK_LUN = -1  # as in Azure Backup: the operating system's disk; data disks count from 0


def stream_name(lun: int) -> str:
    """Also of the file a restore makes."""
    return "disk-os" if lun == OS_DISK_LUN else f"disk-{lun}"


class DisksTransport(BackupTransport, RestoreTransport, Protocol):
    """A backup session that also reads pages of the point before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskInput:
    """One disk. ``identity``: text that tells it from another disk put in its place.
    ``changes_since``: id of the recovery point its dirty runs count from; "" when they count from
    none, which makes everything be read. ``token``: what the source calls the generation of changes
    that begins with this point; the next run is told (``parent_disks``). ``auditable``: its clean
    blocks can be read from the disk itself."""

    lun: int
    source: BlockSource
    identity: str = ""
    changes_since: str = ""
    token: str = ""
    auditable: bool = True
    sector_bytes: int = 512
    grid_exponent: int = GRID_EXPONENT


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysInput:
    """Keys of a machine whose volumes are encrypted inside. ``missing``: names of those that could
    not be had, of which the findings say why."""

    keys: tuple[MachineKey, ...] = ()
    missing: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DisksPlan:
    """What to protect and how. ``machine``: what JSON can say of the machine, up to 1 MiB.
    ``audit_blocks``: clean blocks of a disk that are read to see whether its bitmap is true, or
    ``audit_share`` of its data blocks (0 to 1) when that is more; both 0 where clean ranges cannot
    be read.
    ``pace`` is told the bytes of each read before it is done, and may wait for the guest's sake.
    ``keys``: None of a machine that has none."""

    disks: Sequence[DiskInput]
    machine: Mapping[str, Any]
    host: str = ""
    platform: str = "linux"
    consistency: str = "CrashConsistent"
    consistency_reason: str = ""
    throttle_bytes_per_second: int | None = None
    work_hours: WorkHours | None = None
    audit_blocks: int = 16
    audit_share: float = 0.0
    threads: int = 3
    pace: Callable[[int], object] | None = None
    keys: KeysInput | None = None


class Coverage(Enum):
    """How much of a disk was read: all that holds data, the same to compare it with the point
    before, or only what changed since."""

    FULL = "full"
    COMPARED = "compared"
    CHANGES = "changes"


class AuditOutcome(Enum):
    """Of a disk whose changes were known: its clean blocks were as the point before has them, or
    not; or it was made smaller and grew again, which is no change to a bitmap; or there was nothing
    to compare; or the source did not let them be read."""

    TRUE = "true"
    LYING = "lying"
    CUT = "cut"
    NONE = "none"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Audit:
    """``checked``: clean blocks compared, for which ``read_bytes`` were read; ``wrong``: offsets in
    bytes of those that had changed."""

    outcome: AuditOutcome = AuditOutcome.NONE
    checked: int = 0
    wrong: tuple[int, ...] = ()
    read_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskResult:
    """What became of one disk. ``why``: why it was not read by its changes; "" when it was.
    Bytes: of its data blocks; of blocks its bitmap named; read from it; of blocks that differ from
    the point before."""

    lun: int
    size: int
    coverage: Coverage
    why: str
    audit: Audit
    data_bytes: int
    dirty_bytes: int
    read_bytes: int
    changed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DisksResult:
    """What a backup made. Bytes: logical = data blocks, transferred = sent to the vault."""

    recovery_point_id: str
    logical_bytes: int
    transferred_bytes: int
    read_bytes: int
    findings_count: int
    disks: tuple[DiskResult, ...]


class DiskDone(NamedTuple):
    """How far a disk of a running backup is, in bytes of the disk."""

    lun: int
    done_bytes: int
    total_bytes: int


@dataclass(slots=True)
class Progress:
    """Figures of a running backup or restore; read by a reporting thread. ``done_bytes`` of
    ``total_bytes``: of the disks, holes included."""

    phase: str = "Preparing"
    done_bytes: int = 0
    total_bytes: int | None = None
    read_bytes: int = 0
    transferred_bytes: int = 0
    done_files: int = 0
    total_files: int | None = None
