"""Virtual machines in memory, for tests of the control plane: an agent of the real program that
backs them up and restores them over the real agent API, without a hypervisor.

Disks are kept in the vault as files; nothing here says how real disks are read.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.agent.client import AgentClient
from holdfast.agent.hypervisors import recovery_host
from holdfast.agent.main import Agent, enroll
from holdfast.agent.state import AgentFolder
from holdfast.agent.tasks import Tools
from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.domain.path_text import decode_path
from holdfast.errors import (
    CancelledError,
    HoldfastError,
    NotFoundError,
    SourceError,
    TargetError,
)
from holdfast.ports.clock import Clock
from holdfast.ports.vm_tasks import (
    CREATE_PHASE,
    DOWNLOAD_PHASE,
    MOVE_PHASE,
    SERVE_PHASE,
    SNAPSHOT_PHASE,
    START_PHASE,
    TAG_JOB,
    TAG_OF,
    TAG_POINT,
    UPLOAD_PHASE,
    DiskBackedUp,
    DiskFiles,
    DiskProgress,
    DiskRestored,
    DiskSeen,
    FileRow,
    FilesListed,
    FilesOut,
    InstantCopy,
    InstantMachine,
    KeptSeen,
    MachineSeen,
    MoveDisks,
    NewMachine,
    RestoreTest,
    VmBackedUp,
    VmBackup,
    VmRestore,
    VmRestored,
    VmTested,
)
from holdfast.settings import AgentSettings
from holdfast.testing.little_agent import BackupRun, LittleAgent
from holdfast.testing.live_server import LiveServer
from holdfast.workloads.files.restore import FilesRestore, RestorePlan
from holdfast.workloads.files.restore_fetch import ChunkFetcher

PICTURE = b"a picture"
UNTIL = "2099-01-01T00:00:00+00:00"  # when local copies go


class LittleVm:
    """``disks``: LUN to content."""

    def __init__(self, uuid: str, name: str, disks: dict[int, bytes], power: str = "running"):
        self.uuid, self.name, self.disks, self.power = uuid, name, disks, power
        self.tags: dict[str, str] = {}
        self.moved = threading.Event()


class LittleVms:
    """Keeps ``VmWork``. ``reaches``: the consistency a backup comes to; ``hold``: backups wait for
    it after their snapshot, ``before``: before it. ``refuses``: what backups fail with. ``kept``:
    local copies, by machine; made by backups while ``keeps``, and then also by one that fails."""

    def __init__(self, folder: Path, *machines: LittleVm) -> None:
        self.folder = folder
        self.machines = {one.uuid: one for one in machines}
        self.reaches = ("AppConsistent", "")
        self.before, self.hold = threading.Event(), threading.Event()
        self.before.set()
        self.hold.set()
        self.taken: list[VmBackup | VmRestore] = []
        self.granted = b""  # what unwraps keys, in the latest restore's session
        self.refuses: HoldfastError | None = None
        self.keeps = False
        self.kept: dict[str, list[KeptSeen]] = {}
        self._copied: dict[str, dict[int, bytes]] = {}  # by token

    def inventory(self) -> Sequence[MachineSeen]:
        return [
            MachineSeen(
                uuid=one.uuid,
                name=one.name,
                hypervisor="little",
                power_state=one.power,  # type: ignore[arg-type]
                agent_state="ready",
                tags=dict(one.tags),
                os_type="Linux",
                disks=tuple(
                    DiskSeen(lun=lun, name=f"disk{lun}", size_bytes=len(content))
                    for lun, content in sorted(one.disks.items())
                ),
                kept=tuple(self.kept.get(one.uuid, ())),
            )
            for one in self.machines.values()
        ]

    def back_up(self, asked: VmBackup, session: VmSession, control: VmControl) -> VmBackedUp:
        self.taken.append(asked)
        control.show(SNAPSHOT_PHASE)
        machine = self.machines.get(asked.uuid)
        if machine is None:
            raise SourceError("the machine is gone", code="UserErrorVmNotFoundV2")
        self._wait(self.before, control)
        token = self._keep(asked, control)
        if self.refuses is not None:
            raise self.refuses
        if asked.local_only and token:
            level, reason = self.reaches
            return VmBackedUp(
                recovery_point_id="",
                consistency=level,  # type: ignore[arg-type]
                consistency_reason=reason,
                instant=InstantCopy(kept=True, until=UNTIL),
            )
        content = {f"disk{one.lun}".encode(): machine.disks[one.lun] for one in asked.disks}
        control.show(UPLOAD_PHASE, _figures(asked, content), detail="the snapshot was taken")
        self._wait(self.hold, control)
        door: Any = _Door(session)
        run = BackupRun(LittleAgent(door, SystemRandom()), session.grant)
        root = run.send(content)
        level, reason = self.reaches
        claims = {"consistency": level, "consistencyReason": reason, "transferredBytes": 1}
        point = session.commit(run.receipts, root, claims)
        control.show(UPLOAD_PHASE, _figures(asked, content, done=True))
        self._name_copy(asked, token, point, control)
        disks = [
            DiskBackedUp(lun=one.lun, logical_bytes=len(machine.disks[one.lun]), full="first")
            for one in asked.disks
        ]
        return VmBackedUp(
            recovery_point_id=point,
            consistency=level,  # type: ignore[arg-type]
            consistency_reason=reason,
            freeze_ms=12.5,
            stop_ms=1.5,
            instant=InstantCopy(
                kept=bool(token),
                until=UNTIL if token else "",
                reason="" if token else "its file system cannot share blocks",
            ),
            disks=tuple(disks),
        )

    def _keep(self, asked: VmBackup, control: VmControl) -> str:
        """The token of a local copy made; "" for none."""
        if not self.keeps or not asked.instant_days:
            return ""
        token = SystemRandom().token(16).hex()
        made = KeptSeen(
            token=token,
            taken_at=SystemClock().now().isoformat(),
            until=UNTIL,
            job_id=asked.job_id,
            consistency=self.reaches[0],
            luns=tuple(one.lun for one in asked.disks),
        )
        self.kept.setdefault(asked.uuid, []).append(made)
        self._copied[token] = dict(self.machines[asked.uuid].disks)
        control.machines_changed()
        return token

    def _name_copy(self, asked: VmBackup, token: str, point: str, control: VmControl) -> None:
        self.kept[asked.uuid] = [
            msgspec.structs.replace(one, point=point) if one.token == token else one
            for one in self.kept.get(asked.uuid, ())
        ]
        control.machines_changed()

    def _wait(self, event: threading.Event, control: VmControl) -> None:
        while not event.wait(0.05):
            control.check()

    def restore(
        self, asked: VmRestore, session: VmSession, control: VmControl
    ) -> VmRestored | VmTested:
        self.taken.append(asked)
        self.granted = session.grant.keys_key
        match asked.target:
            case InstantMachine() as instant:
                return self._run_from_vault(asked, instant, control)
            case MoveDisks() as moving:
                return self._move(moving, control)
            case RestoreTest() as test:
                code = 3 if "fail" in test.script else 0
                reason = f"the script ended with {code}" if code else ""
                picture = base64.b64encode(PICTURE).decode()
                return VmTested(passed=not code, reason=reason, exit_code=code, screenshot=picture)
            case FilesListed() as listed:
                return _listed(listed)
            case FilesOut() as out:
                return _files(out, control)
            case _:
                return self._restore_disks(asked, session, control)

    def _run_from_vault(
        self, asked: VmRestore, target: InstantMachine, control: VmControl
    ) -> VmRestored:
        control.show(START_PHASE)
        uuid = f"00000000-0000-4000-9000-{len(self.machines):012d}"
        made = LittleVm(uuid, target.name, dict(self.machines[asked.uuid].disks))
        made.tags = {
            TAG_OF: asked.name,
            TAG_POINT: asked.recovery_point_id,
            TAG_JOB: asked.job_id,
        }
        self.machines[uuid] = made
        control.machines_changed()
        control.show(SERVE_PHASE)
        try:
            self._wait(made.moved, control)
        except CancelledError:
            if control.undone:
                del self.machines[uuid]
                control.machines_changed()
            raise
        return VmRestored(disks=_restored(self.folder, made.disks), machine_uuid=uuid)

    def _move(self, target: MoveDisks, control: VmControl) -> VmRestored:
        control.show(MOVE_PHASE)
        made = next(one for one in self.machines.values() if one.name == target.name)
        folder = Path(os.fsdecode(decode_path(target.folder)))
        if not folder.is_dir():
            raise TargetError(f"{folder} is not there", code="TargetUnavailable")
        made.tags = {}
        made.moved.set()
        control.machines_changed()
        return VmRestored(disks=_restored(folder, made.disks), machine_uuid=made.uuid)

    def _restore_disks(
        self, asked: VmRestore, session: VmSession, control: VmControl
    ) -> VmRestored:
        control.show(DOWNLOAD_PHASE)
        staged = self.folder / f"staged-{asked.recovery_point_id}"
        plan = RestorePlan(target=staged, paths=())
        FilesRestore(plan, ChunkFetcher(session), None, cancelled=lambda: control.stopped).run()
        found = {int(file.name.removeprefix("disk")): file for file in staged.rglob("disk*")}
        wanted = {lun: found[lun].read_bytes() for lun in asked.luns or found}
        shutil.rmtree(staged)
        return self._put(asked, wanted, control)

    def restore_local(self, asked: VmRestore, control: VmControl) -> VmRestored:
        self.taken.append(asked)
        control.show(DOWNLOAD_PHASE)
        copied = self._copied[asked.local_token]
        return self._put(asked, {lun: copied[lun] for lun in asked.luns or copied}, control)

    def _put(self, asked: VmRestore, wanted: dict[int, bytes], control: VmControl) -> VmRestored:
        target = asked.target
        if isinstance(target, DiskFiles):
            folder = Path(os.fsdecode(decode_path(target.folder)))
            return _into_folder(folder, asked, wanted)
        control.show(CREATE_PHASE)
        if isinstance(target, NewMachine):
            uuid = f"00000000-0000-4000-8000-{len(self.machines):012d}"
            self.machines[uuid] = LittleVm(uuid, target.name, wanted, "stopped")
            return VmRestored(disks=_restored(self.folder, wanted), machine_uuid=uuid)
        self.machines[asked.uuid].disks.update(wanted)
        kept = tuple(f"{lun}.before" for lun in wanted)
        return VmRestored(disks=_restored(self.folder, wanted), kept=kept)


def _listed(target: FilesListed) -> VmRestored:
    """One volume with two files."""
    if target.path == "/":
        volume = FileRow(name="osdisk-p1", path="/osdisk-p1", type="volume", file_system="ext4")
        return VmRestored(entries=(volume,))
    if target.path != "/osdisk-p1":
        raise NotFoundError(f"{target.path} is not in the volume", code="PathNotFound")
    rows = [FileRow(name=name, path=f"/osdisk-p1/{name}", type="file") for name in ("a", "b")]
    left = [row for row in rows if row.name > target.after]
    return VmRestored(entries=tuple(left[:1]), more=len(left) > 1)  # pages are short here


def _files(target: FilesOut, control: VmControl) -> VmRestored:
    """The paths asked for, each a small file; what is there stays when it is to be skipped."""
    folder = Path(os.fsdecode(decode_path(target.folder)))
    for path in target.paths:
        place = folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if target.conflict != "skip" or not place.exists():
            place.write_text(path)
    control.finding("ModeNotRestored", "osdisk-p1/a", "setuid and setgid were left out")
    return VmRestored(files_restored=len(target.paths))


def _figures(
    asked: VmBackup, content: dict[bytes, bytes], *, done: bool = False
) -> list[DiskProgress]:
    sizes = {one.lun: len(content[f"disk{one.lun}".encode()]) for one in asked.disks}
    return [
        DiskProgress(lun=lun, done_bytes=size if done else 0, total_bytes=size)
        for lun, size in sizes.items()
    ]


def _restored(folder: Path, disks: dict[int, bytes]) -> tuple[DiskRestored, ...]:
    return tuple(
        DiskRestored(lun=lun, path=str(folder / f"disk{lun}"), logical_bytes=len(content))
        for lun, content in sorted(disks.items())
    )


def _into_folder(folder: Path, asked: VmRestore, disks: dict[int, bytes]) -> VmRestored:
    if not folder.is_dir():
        raise TargetError(f"{folder} is not there", code="TargetUnavailable")
    for lun, content in disks.items():
        (folder / f"disk{lun}").write_bytes(content)
    definition = folder / f"{asked.name}.xml"
    definition.write_text("<domain/>")
    return VmRestored(disks=_restored(folder, disks), definition=str(definition))


class _Door:
    """A session as ``BackupRun`` reaches a vault."""

    def __init__(self, session: VmSession) -> None:
        self._session = session

    def lookup(self, _session_id: bytes, packed: bytes) -> bytes:
        return self._session.lookup(packed)

    def start_pack(self, _session_id: bytes, pack_id: bytes, _size: int) -> _Receiver:
        return _Receiver(self._session, pack_id)


class _Receiver:
    def __init__(self, session: VmSession, pack_id: bytes) -> None:
        self._session, self._pack_id, self._data = session, pack_id, bytearray()

    def write(self, data: bytes) -> None:
        self._data += data

    def finish(self) -> bytes:
        return self._session.put_pack(self._pack_id, memoryview(bytes(self._data)))

    def abort(self) -> None:
        """Nothing was sent."""


@contextmanager
def running_host(
    server: LiveServer,
    vault: str,
    name: str,
    folder: Path,
    vms: LittleVms | None,
    clock: Clock | None = None,
) -> Iterator[None]:
    """The real agent of a host, enrolled in ``vault``, in a thread of this process. ``clock``: the
    server's, if it is not the system's."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = f"{vault}/providers/Holdfast.Backup/createVaultCredentials"
    made = server.ok("POST", ours, {"properties": {"expiresInSeconds": 3600}})
    credentials = folder / "credentials.json"
    credentials.write_text(json.dumps(made["properties"]["credentials"]))
    enroll(credentials, folder / "agent", name=name)
    agent_folder = AgentFolder(folder / "agent")
    state, key = agent_folder.load()
    clock = clock or SystemClock()
    rng, stopping = SystemRandom(), threading.Event()
    client = AgentClient(state, key, agent_folder.ca, clock, rng, stopping)
    recovery = recovery_host(AgentSettings(), clock, rng, name)
    agent = Agent(Tools(client, agent_folder, state, clock, rng, stopping, (), vms, recovery))
    serving = threading.Thread(target=agent.serve, name=f"agent-{name}")
    serving.start()
    try:
        yield
    finally:
        stopping.set()
        if vms is not None:
            vms.before.set()
            vms.hold.set()
        serving.join(timeout=60)
        client.close()
