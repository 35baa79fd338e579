"""The data half of the agent API: sessions, packs, lookups, commits, and frames for restores.

Every call is checked against the catalog: the session was opened by this agent for a task it still
holds. An agent can append packs and commits for its own container and read the recovery point its
task names; nothing here deletes or overwrites.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from holdfast.catalog import containers, jobs, points, tasks
from holdfast.catalog.containers import AgentRow, ContainerRow
from holdfast.catalog.database import Catalog
from holdfast.catalog.heads import WitnessRow, keep_witness
from holdfast.catalog.identifiers import id_bytes
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.tasks import AgentSession, SessionCounts, TaskRow
from holdfast.errors import AccessError, ConflictError, InternalError, NotFoundError
from holdfast.jobs import heads
from holdfast.jobs.agent_work import end_session, session_sums
from holdfast.jobs.context import OpenVault
from holdfast.jobs.engine import JobEngine
from holdfast.jobs.facts import facts_for, point_row
from holdfast.ports import vm_tasks
from holdfast.services.agent_tasks import fenced, held_task
from holdfast.services.lookups import DEFAULT_RATE, LookupCounts, LookupRate
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.ids import NAME_BYTES
from holdfast.vaultstore.values import (
    CommitRequest,
    FrameLocation,
    Frames,
    PointClaims,
    RecoveryPointRecord,
    SessionKind,
)
from holdfast.vaultstore.vault import PackReceiver, Vault

KINDS: dict[str, SessionKind] = {
    "files-backup": "backup",
    "files-restore": "restore",
    vm_tasks.BACKUP: "backup",
    vm_tasks.RESTORE: "restore",
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A pack on its way in. ``done`` counts it after ``receiver.finish``."""

    receiver: PackReceiver
    done: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Open:
    """A session that may be used now."""

    session: AgentSession
    task: TaskRow
    vault: Vault
    id: bytes


def _container(task: TaskRow, own: ContainerRow) -> str:
    """Whose data a session is about: the agent's own machine's, or its virtual machine's, whose
    container it stays on whatever host."""
    if task.kind in (vm_tasks.BACKUP, vm_tasks.RESTORE):
        return task.item_key.partition("/")[0]
    return own.name


def _token(vault: Vault) -> bytes:
    return vault.witness_token() if vault.doubt is None else b""


class AgentData:
    """All methods are synchronous and thread safe."""

    def __init__(
        self,
        catalog: Catalog,
        engine: JobEngine,
        open_vault: OpenVault,
        lookup_rate: float = DEFAULT_RATE,
    ) -> None:
        self._catalog = catalog
        self._engine = engine
        self._open_vault = open_vault
        self._clock = engine.ledger.clock
        self._rate = LookupRate(lookup_rate, self._clock.monotonic)
        self._counts = LookupCounts(self._clock.monotonic)

    def open_session(
        self, agent: AgentRow, task_id: str, fence: int, seen: Sequence[bytes] = ()
    ) -> SessionGrant:
        """Open a vault session for a task; what earlier attempts uploaded is taken over first.
        ``seen``: heads the agent was given, which the vault must not fall behind."""
        with self._catalog.read() as connection:
            task = held_task(connection, agent, task_id, fence)
            job = jobs.get_job(connection, task.job_id)
            container = containers.get_container(connection, agent.container_id)
        if job is None or container is None:
            raise InternalError(f"the job or container of task {task_id} is gone")
        vault = self._open_vault(task.vault_id)
        self._hear(vault, agent, seen)
        kind = KINDS[task.kind]
        pins = [str(task.payload["recoveryPointId"])] if kind == "restore" else []
        grant = vault.begin_session(
            kind,
            _container(task, container),
            task.item_key,
            id_bytes(job.id),
            pins=pins,
            attempt=fence,
            with_keys=bool(task.payload.get("restoreKeys")),
        )
        kept = vault.recover_sessions(id_bytes(job.id), grant.session_id)
        self._remember(agent, task, fence, kind, grant.session_id)
        heads.remember(self._catalog, vault, task.vault_id)
        if kept.packs_kept:
            with self._catalog.write() as connection:
                message = f"{kept.bytes_kept} bytes of an earlier attempt are used again"
                self._engine.ledger.note(connection, job.id, "taken-over", message)
        return msgspec.structs.replace(grant, witness=_token(vault))

    def _hear(self, vault: Vault, agent: AgentRow, seen: Sequence[bytes]) -> None:
        """Compare the log with what the agent remembers of it, and remember that too."""
        found = [head for token in seen if (head := vault.read_witness(token)) is not None]
        if not found:
            return
        head = max(found, key=lambda one: (one.term, one.sequence))
        row = WitnessRow(
            vault_id=agent.vault_id,
            container_id=agent.container_id,
            named=f"the agent on {agent.host}"[:300],
            sequence=head.sequence,
            term=head.term,
            hash=head.hash.hex(),
            seen_at=self._clock.now(),
        )
        with self._catalog.write() as connection:
            keep_witness(connection, row)
        vault.witness(head, row.named)

    def _remember(
        self, agent: AgentRow, task: TaskRow, fence: int, kind: str, session_id: bytes
    ) -> None:
        now = self._clock.now()
        with self._catalog.read() as connection:
            earlier_ids = [one.id for one in tasks.sessions_of_task(connection, task.id)]
        for earlier_id in earlier_ids:
            self._write_counts(earlier_id, ended=True)
        row = AgentSession(
            id=session_id.hex(),
            vault_id=task.vault_id,
            agent_id=agent.id,
            task_id=task.id,
            fence=fence,
            kind=kind,
            received_bytes=0,
            received_packs=0,
            asked_ids=0,
            present_ids=0,
            opened_at=now,
            closed_at=None,
        )
        with self._catalog.write() as connection:
            for earlier in tasks.sessions_of_task(connection, task.id):
                end_session(connection, earlier, now)
            tasks.add_session(connection, row)

    def _use(self, agent: AgentRow, session_hex: str, kind: str | None = None) -> _Open:
        """The session, if this agent may use it now. NotFoundError (SessionUnknown), ConflictError
        (TaskFenced, SessionClosed), AccessError (SessionKindWrong)."""

        def ask(connection: Connection) -> tuple[AgentSession | None, TaskRow | None]:
            session = tasks.get_session(connection, session_hex)
            return session, tasks.get_task(connection, session.task_id) if session else None

        session, task = self._catalog.recall(("session", session_hex), ask)
        if session is None or task is None or session.agent_id != agent.id:
            raise NotFoundError(f"there is no session {session_hex[:64]}", code="SessionUnknown")
        if task.agent_id != agent.id or task.fence != session.fence or task.state == tasks.DONE:
            raise fenced(task.id)
        if session.closed_at is not None:
            raise ConflictError(
                f"session {session_hex} is closed",
                code="SessionClosed",
                hint="Open a session for the task again.",
            )
        if kind is not None and session.kind != kind:
            raise AccessError(
                f"a {session.kind} session may not do this",
                code="SessionKindWrong",
                hint="Open a session of the right kind.",
            )
        vault = self._open_vault(session.vault_id)
        return _Open(session, task, vault, bytes.fromhex(session.id))

    def start_pack(self, agent: AgentRow, session_hex: str, pack_id: bytes, size: int) -> Upload:
        """Begin to receive a pack of exactly ``size`` bytes."""
        used = self._use(agent, session_hex, "backup")
        receiver = used.vault.start_pack(used.id, pack_id, size)

        def done() -> None:
            with self._catalog.write() as connection:
                tasks.add_counts(connection, used.session.id, SessionCounts(size, 1))

        return Upload(receiver, done)

    def lookup(self, agent: AgentRow, session_hex: str, packed: bytes) -> bytes:
        """Presence of chunks, counted. TooManyLookupsError."""
        used = self._use(agent, session_hex, "backup")
        asked = len(packed) // NAME_BYTES
        self._rate.take(agent.id, asked)
        found = used.vault.lookup(used.id, packed)
        if self._counts.add(used.session.id, asked, found.count(1)):
            self._write_counts(used.session.id)
        return found

    def _write_counts(self, session_hex: str, *, ended: bool = False) -> None:
        counts = self._counts.take(session_hex, ended=ended)
        if counts != SessionCounts():
            with self._catalog.write() as connection:
                tasks.add_counts(connection, session_hex, counts)

    def checkpoint(self, agent: AgentRow, session_hex: str, receipts: Sequence[bytes]) -> None:
        used = self._use(agent, session_hex, "backup")
        used.vault.checkpoint(used.id, receipts)

    def commit(
        self,
        agent: AgentRow,
        session_hex: str,
        receipts: Sequence[bytes],
        root_id: bytes,
        claims: PointClaims,
    ) -> RecoveryPointRecord:
        """Make the task's recovery point; its facts come from the job, never from the agent.
        ConflictError MissingChunks, ParentStale."""
        used = self._use(agent, session_hex, "backup")
        with self._catalog.read() as connection:
            job = jobs.get_job(connection, used.task.job_id)
            if job is None or job.status != "InProgress":
                raise fenced(used.task.id)
            facts = facts_for(connection, job, used.task.payload, used.session.opened_at)
        request = CommitRequest(
            receipts=tuple(receipts), root_id=root_id, facts=facts, claims=claims
        )
        record = used.vault.commit(used.id, request)
        self._publish(job, record)
        heads.remember(self._catalog, used.vault, job.vault_id)
        return record

    def witness(self, agent: AgentRow, session_hex: str) -> bytes:
        """The head of the session's vault, for the agent to keep; empty while it is in doubt."""
        return _token(self._use(agent, session_hex).vault)

    def _publish(self, job: JobRow, record: RecoveryPointRecord) -> None:
        with self._catalog.write() as connection:
            row = point_row(record, job.vault_id, job.item_id or "")
            if points.put_point(connection, row):
                message = f"recovery point {record.rp_id} was committed"
                self._engine.ledger.note(connection, job.id, "committed", message)

    def close(self, agent: AgentRow, session_hex: str) -> None:
        """End the session; closing it again is harmless."""
        with self._catalog.read() as connection:
            session = tasks.get_session(connection, session_hex)
        if session is None or session.agent_id != agent.id:
            raise NotFoundError(f"there is no session {session_hex[:64]}", code="SessionUnknown")
        if session.closed_at is not None:
            return
        self._write_counts(session.id, ended=True)
        self._open_vault(session.vault_id).close_session(bytes.fromhex(session.id))
        with self._catalog.write() as connection:
            tasks.close_session(connection, session.id, self._clock.now())

    def sums(self, session_hex: str) -> dict[str, int]:
        """What a session sent and asked so far."""
        self._write_counts(session_hex)
        with self._catalog.read() as connection:
            session = tasks.get_session(connection, session_hex)
        return session_sums(session) if session is not None else {}

    def locate(self, agent: AgentRow, session_hex: str, ids: bytes) -> list[FrameLocation]:
        """Where chunks lie and the keys of their frames; only of the task's recovery point, or of
        the parent point of a backup."""
        used = self._use(agent, session_hex)
        return used.vault.locate(used.id, ids)

    def read_frames(
        self, agent: AgentRow, session_hex: str, pack_id: bytes, frames: Sequence[int]
    ) -> Frames:
        """Ciphertext of frames, authorised one by one before the first byte."""
        used = self._use(agent, session_hex)
        return used.vault.read_frames(used.id, pack_id, frames)
