"""What server and agent tell each other of virtual machines: a host's inventory, and the bodies and
results of its tasks. JSON with camelCase keys; every text and list is bounded.

Disks are named by their LUN: the operating system's disk is -1, data disks count from 0 in the
order the host has them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from holdfast.errors import InternalError
from holdfast.ports.key_vault import NAME, VERSION

BACKUP, RESTORE = "vm-backup", "vm-restore"
SNAPSHOT_PHASE, UPLOAD_PHASE = "Take Snapshot", "Transfer data to vault"
DOWNLOAD_PHASE, CREATE_PHASE = "Transfer data from vault", "Create the restored virtual machine"
START_PHASE, SERVE_PHASE = "Start the virtual machine", "Running from the vault"
MOVE_PHASE, TEST_PHASE = "Move disks to local storage", "Test the recovery point"
OS_DISK_LUN = -1
SILENT = "GuestAgentSilent"  # the finding that a guest did not answer
MAX_MACHINES, MAX_DISKS, MAX_LUN = 2000, 64, 63
MAX_SCRIPT, MAX_SCREENSHOT = 32_768, 350_000  # characters; the second in base64
TAG_OF, TAG_POINT, TAG_JOB = "holdfast:instantOf", "holdfast:instantPoint", "holdfast:instantJob"
MAX_KEPT = 1000  # local copies of a machine
MAX_KEYS = MAX_DISKS + 1  # of one machine: of each disk, and of all
MAX_PATHS, MAX_ROWS = 100, 1000  # of files asked for, and listed at a time

Uuid = Annotated[
    str, msgspec.Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Word = Annotated[str, msgspec.Meta(max_length=100)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]
PathText = Annotated[str, msgspec.Meta(max_length=20_000)]
Lun = Annotated[int, msgspec.Meta(ge=OS_DISK_LUN, le=MAX_LUN)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=86_400_000)]
PowerState = Literal["running", "paused", "stopped", "unknown"]
AgentState = Literal["ready", "silent", "missing", "unknown"]
Level = Literal["CrashConsistent", "FileSystemConsistent", "AppConsistent"]
Format = Literal["qcow2", "raw", "vhd", "vhdx"]


class Shape(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Keys are camelCase; unknown ones are let pass, so that either side may be newer."""


class DiskSeen(Shape, frozen=True, kw_only=True):
    """``problem``: why it cannot be backed up, "" when it can."""

    lun: Lun
    name: Name
    size_bytes: Size
    format: Word = ""
    problem: Text = ""


class KeptSeen(Shape, frozen=True, kw_only=True):
    """Local copies of a machine's disks in one point in time. ``point``: the recovery point that
    has the same in the vault, "" without one; ``job_id``: of the backup that made them; times in
    ISO 8601."""

    token: Word
    taken_at: Word
    until: Word
    point: Word = ""
    job_id: Word = ""
    consistency: Word = ""
    reason: Text = ""
    luns: Annotated[tuple[Lun, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()


class MachineSeen(Shape, frozen=True, kw_only=True):
    """A virtual machine as its host has it. ``agent_state``: of the guest agent in it."""

    uuid: Uuid
    name: Name
    hypervisor: Word = ""
    power_state: PowerState = "unknown"
    agent_state: AgentState = "unknown"
    os_type: Literal["Linux", "Windows", "Unknown"] = "Unknown"
    processors: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    memory_bytes: Size = 0
    disks: Annotated[tuple[DiskSeen, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()
    tags: Annotated[
        dict[Annotated[str, msgspec.Meta(min_length=1, max_length=512)], Word],
        msgspec.Meta(max_length=50),
    ] = {}
    kept: Annotated[tuple[KeptSeen, ...], msgspec.Meta(max_length=MAX_KEPT)] = ()


class Inventory(Shape, frozen=True, kw_only=True):
    """All virtual machines of one host; what is not in it is not there any more."""

    virtual_machines: Annotated[tuple[MachineSeen, ...], msgspec.Meta(max_length=MAX_MACHINES)]


class DiskAsked(Shape, frozen=True, kw_only=True):
    """A disk to back up, as the inventory had it."""

    lun: Lun
    name: Name


class VmBackup(Shape, frozen=True, kw_only=True):
    """Back one machine up, all ``disks`` at one point in time.

    ``wish``: the consistency to try first; falling below ``minimum`` fails the task with
    ConsistencyNotReached, and ``minimum_by`` says in words who asks for it. ``parent_point``: the
    item's latest recovery point, to be incremental to. ``audit_share``: part of the clean blocks
    that is read and compared all the same. ``instant_days``: for how long copies of the disks are
    kept beside them, 0 for none; ``local_only``: nothing goes to the vault when such a copy stands;
    ``job_id``: the job this is for."""

    uuid: Uuid
    name: Name
    disks: Annotated[tuple[DiskAsked, ...], msgspec.Meta(min_length=1, max_length=MAX_DISKS)]
    wish: Level = "AppConsistent"
    minimum: Level = "CrashConsistent"
    minimum_by: Text = ""
    parent_point: str | None = None
    audit_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    throttle_bytes_per_second: int | None = None
    retain_until: str | None = None
    instant_days: Annotated[int, msgspec.Meta(ge=0, le=30)] = 0
    local_only: bool = False
    job_id: str = ""


class DiskBackedUp(Shape, frozen=True, kw_only=True):
    """``dirty_bytes``: what the change record said; ``read_bytes``: what was read from the guest's
    disk; ``audited_bytes``: of that, for the audit; ``transferred_bytes``: of blocks that differ
    from the point before, uncompressed; ``full``: why everything was compared, "" when it was
    not."""

    lun: Lun
    logical_bytes: Size
    dirty_bytes: Size = 0
    read_bytes: Size = 0
    audited_bytes: Size = 0
    transferred_bytes: Size = 0
    full: Text = ""


class InstantCopy(Shape, frozen=True, kw_only=True):
    """``until``: when the local copies of the disks go, ISO 8601; ``reason``: why there are
    none."""

    kept: bool
    until: Word = ""
    reason: Text = ""


class VmBackedUp(Shape, frozen=True, kw_only=True):
    """``recovery_point_id``: "" of a point that stays beside the disks (``local_only``).
    ``consistency`` reached and, below the wish, why. ``freeze_ms``: how long the guest's file
    systems were frozen; ``stop_ms``: how long its processors stood still; ``waited_ms``: how long
    reads of its disks were held back for its sake; ``guest_write_ms``: the longest its own writes
    took meanwhile, averaged over a second. ``instant``: of the copies kept beside the disks, None
    when none were asked for."""

    recovery_point_id: str
    consistency: Level
    consistency_reason: Text = ""
    freeze_ms: Milliseconds = 0.0
    stop_ms: Milliseconds = 0.0
    waited_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    guest_write_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    instant: InstantCopy | None = None
    disks: Annotated[tuple[DiskBackedUp, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()


class NewMachine(Shape, frozen=True, kw_only=True, tag="new", tag_field="kind"):
    """A machine of its own beside the original. ``folder``: where its disks go, as ``encode_path``
    writes it, None for the host's usual place; ``network``: "" for the original's, "none" for
    none."""

    name: Name
    folder: str | None = None
    network: Word = ""


class ReplaceDisks(Shape, frozen=True, kw_only=True, tag="replace", tag_field="kind"):
    """The disks of the machine itself, which must be off; the old ones are kept beside."""


class DiskFiles(Shape, frozen=True, kw_only=True, tag="folder", tag_field="kind"):
    """Image files in a folder of the host (as ``encode_path`` writes it), with a machine definition
    beside them."""

    folder: str
    format: Format = "qcow2"


class InstantMachine(Shape, frozen=True, kw_only=True, tag="instant", tag_field="kind"):
    """A machine of that name that runs from the vault, until its disks are moved. One that was
    started before from the same point goes on with what it wrote."""

    name: Name


class MoveDisks(Shape, frozen=True, kw_only=True, tag="move", tag_field="kind"):
    """The disks of the instantly restored machine ``name`` into a folder (as ``encode_path`` writes
    it), while it runs."""

    name: Name
    folder: str


class RestoreTest(Shape, frozen=True, kw_only=True, tag="test", tag_field="kind"):
    """Start the point without any network, ask its guest agent, run ``script`` in it (none when
    empty), and throw the machine away. ``seconds``: for the guest to come up, and again for the
    script."""

    script: Annotated[str, msgspec.Meta(max_length=MAX_SCRIPT)] = ""
    seconds: Annotated[int, msgspec.Meta(ge=1, le=7200)] = 300


class FilesOut(Shape, frozen=True, kw_only=True, tag="files", tag_field="kind"):
    """Files of the machine's volumes into a folder of the host, each at FOLDER/VOLUME/PATH. Paths
    as ``encode_path`` writes them; ``paths`` begin with a slash and a volume's name."""

    folder: PathText
    paths: Annotated[tuple[PathText, ...], msgspec.Meta(min_length=1, max_length=MAX_PATHS)]
    conflict: Literal["overwrite", "skip", "keep-both"] = "overwrite"


class FilesListed(Shape, frozen=True, kw_only=True, tag="list", tag_field="kind"):
    """Nothing but a list: of the machine's volumes ("/"), or of a folder, from behind the name
    ``after``."""

    path: PathText
    after: PathText = ""
    top: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)] = MAX_ROWS


Target = (
    NewMachine
    | ReplaceDisks
    | DiskFiles
    | InstantMachine
    | MoveDisks
    | RestoreTest
    | FilesOut
    | FilesListed
)


class VmRestore(Shape, frozen=True, kw_only=True):
    """``uuid`` and ``name``: of the machine the point is of. ``luns``: the disks to restore, all of
    the point's when empty. ``job_id``: the job this is for. ``restore_keys``: put the keys of its
    encrypted volumes into the host's key vault. ``local_token``: of the host's own copies, when the
    point has nothing else; only disks are restored of it."""

    recovery_point_id: str
    uuid: Uuid
    name: Name
    target: Target
    job_id: str = ""
    luns: Annotated[tuple[Lun, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()
    restore_keys: bool = False
    local_token: Word = ""


class KeyShown(Shape, frozen=True, kw_only=True):
    """A secret of a key vault without its value. ``luns``: the disks it is for, none for all."""

    name: Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]
    version: Annotated[str, msgspec.Meta(pattern=f"^{VERSION.pattern}$")]
    luns: Annotated[tuple[Lun, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()


class KeyRestored(KeyShown, frozen=True, kw_only=True):
    """``version``: the one of the host's key vault that holds it; ``added``: it was not there
    before."""

    added: bool


class DiskRestored(Shape, frozen=True, kw_only=True):
    """``path``: the image file on the host, as ``encode_path`` writes it; so are all paths of a
    restore's result. ``local_copy``: it came from one beside the machine's disks, not from the
    vault."""

    lun: Lun
    path: Text
    logical_bytes: Size
    written_bytes: Size = 0
    local_copy: bool = False


class FileRow(Shape, frozen=True, kw_only=True):
    """A file, a folder, or (``type`` volume) a volume. ``problem``: why a volume cannot be looked
    into. ``mtime_ns``: since 1970."""

    name: PathText
    path: PathText
    type: Literal["file", "directory", "symlink", "fifo", "device", "other", "volume"]
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    mtime_ns: int = 0
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] = 0
    uid: int = 0
    gid: int = 0
    link_target: PathText = ""
    file_system: Word = ""
    label: Text = ""
    problem: Text = ""


class VmRestored(Shape, frozen=True, kw_only=True):
    """``entries``: what was listed, ``more``: that there is more. Counts: of files restored; of
    restores of disks they are not told. ``machine_uuid``: of the new machine; ``definition``: file
    with the ready definition; ``kept``: files of the disks that were replaced; ``keys``: of the
    encrypted volumes, in the host's key vault; ``ready_seconds``: from the start of the work to the
    first answer of the guest's agent, None when it did not answer or was not asked."""

    disks: Annotated[tuple[DiskRestored, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()
    machine_uuid: str = ""
    definition: Text = ""
    kept: Annotated[tuple[Text, ...], msgspec.Meta(max_length=MAX_DISKS)] = ()
    keys: Annotated[tuple[KeyRestored, ...], msgspec.Meta(max_length=MAX_KEYS)] = ()
    ready_seconds: float | None = None
    files_restored: int | msgspec.UnsetType = msgspec.UNSET
    directories_restored: int | msgspec.UnsetType = msgspec.UNSET
    files_skipped: int | msgspec.UnsetType = msgspec.UNSET
    logical_bytes: int | msgspec.UnsetType = msgspec.UNSET
    entries: Annotated[tuple[FileRow, ...], msgspec.Meta(max_length=MAX_ROWS)] = ()
    more: bool | msgspec.UnsetType = msgspec.UNSET


class VmTested(Shape, frozen=True, kw_only=True):
    """What a restore test found. ``reason``: why it did not pass; ``exit_code``: of the script,
    None when none ran to its end; ``screenshot``: of the machine's screen at the end, PNG in
    base64."""

    passed: bool
    reason: Text = ""
    ready_seconds: float | None = None
    exit_code: int | None = None
    output: Text = ""
    screenshot: Annotated[str, msgspec.Meta(max_length=MAX_SCREENSHOT)] = ""


class DiskProgress(Shape, frozen=True, kw_only=True):
    lun: Lun
    done_bytes: Size
    total_bytes: Size


VmBody = VmBackup | VmRestore | VmBackedUp | VmRestored | VmTested
T = TypeVar("T", VmBackup, VmRestore, VmBackedUp, VmRestored, VmTested)


def to_body(value: VmBody) -> dict[str, Any]:
    """As a JSON object."""
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


def to_target(value: Target) -> dict[str, Any]:
    """A restore's target as a JSON object; ``kind`` tells which."""
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


def read_backup(payload: dict[str, Any]) -> VmBackup:
    """InternalError (TaskUnreadable)."""
    return _read(payload, VmBackup)


def read_restore(payload: dict[str, Any]) -> VmRestore:
    """InternalError (TaskUnreadable)."""
    return _read(payload, VmRestore)


def read_backed_up(result: dict[str, Any]) -> VmBackedUp:
    """InternalError (TaskUnreadable)."""
    return _read(result, VmBackedUp)


def read_restored(result: dict[str, Any]) -> VmRestored:
    """InternalError (TaskUnreadable)."""
    return _read(result, VmRestored)


def read_tested(result: dict[str, Any]) -> VmTested:
    """InternalError (TaskUnreadable)."""
    return _read(result, VmTested)


def _read(given: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise InternalError(
            f"the other side's {kind.__name__} cannot be read: {error}",
            code="TaskUnreadable",
            hint="run server and agents of one version",
        ) from error
