"""The agent API under ``/providers/Holdfast.Backup/agents``: enrol, take tasks, send and read data.

``agent_routes`` are mounted by the server's application, which puts an ``AgentDesk`` into
``app.state.agents`` and the caller into ``request.state.principal`` (enrolment carries its own
credential). Store and catalog work runs in threads; the event loop only moves bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
from litestar import Response, get, post, put
from litestar.response import Stream

from holdfast.arm.agent_bodies import (
    CheckpointCall,
    CommitCall,
    CompleteBody,
    EnrollBody,
    NextBody,
    ProgressBody,
    ReceiptReply,
    SessionBody,
    locations_reply,
    pack_id_of,
    parse_frames,
    read_json,
    read_msgpack,
)
from holdfast.arm.http import ArmRequest, Body, note
from holdfast.arm.polling import rung_in_time
from holdfast.arm.receiving import receive_pack, too_many_uploads
from holdfast.catalog.containers import AgentRow
from holdfast.catalog.tasks import TaskRow
from holdfast.errors import LimitError, UsageError
from holdfast.identity.authority import Principal
from holdfast.ports.vm_tasks import Inventory
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.agent_tasks import OUTCOMES, Completion, Handed, Report
from holdfast.services.agents import Enrolment, calling_agent, enrol
from holdfast.services.machines import WANTED, take_inventory
from holdfast.services.platform import Platform
from holdfast.vaultstore.grant import encode_grant

AGENTS = "/providers/Holdfast.Backup/agents"
ONE = f"{AGENTS}/{{agent_id:str}}"
TASK = f"{ONE}/tasks/{{task_id:str}}"
SESSION = f"{ONE}/sessions/{{session_id:str}}"
CONTROL_BYTES = 8 * 1024 * 1024
DATA_BYTES = 32 * 1024 * 1024
LOOKUP_BYTES = 48 * 65_536
LOCATE_BYTES = 32 * 4096
MAX_WAIT_SECONDS = 30.0
CANCEL_SECONDS = 0.5  # an agent that was told to stop a task and still works on it asks so often
MSGPACK = "application/msgpack"
MOST_WITNESSES = 16  # heads an agent brings: one of each vault it ever worked for
NAMES_NOTED = 50  # of machines, in one entry of the audit record


def _recorded(action: str) -> dict[str, Any]:
    """Options of a call that goes into the audit record by itself."""
    return {"action": f"Holdfast.Backup/agents/{action}", "recorded": True}


def _passing(action: str) -> dict[str, Any]:
    """Options of a call that does not: it reads or only says that work goes on; packs and lookups
    are recorded as sums when their session commits and ends."""
    return {"action": f"Holdfast.Backup/agents/{action}"}


def _desk(request: ArmRequest) -> AgentDesk:
    found: AgentDesk = request.app.state.agents
    return found


def _platform(request: ArmRequest) -> Platform:
    found: Platform = request.app.state.platform
    return found


async def _agent(request: ArmRequest, agent_id: str) -> AgentRow:
    platform = _platform(request)
    principal = request.state.principal
    return await _desk(request).run(calling_agent, platform.catalog, principal, agent_id)


async def _body(request: ArmRequest, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes. LimitError (RequestTooLarge)."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> LimitError:
    return LimitError(
        f"the request body is larger than {limit} bytes",
        code="RequestTooLarge",
        hint="send less in one call",
        retry="never",
    )


@post(
    f"{AGENTS}/enroll",
    status_code=200,
    request_max_body_size=None,
    opt=_recorded("enroll/action"),
)
async def enroll(request: ArmRequest) -> Body:
    """Register this machine with vault credentials."""
    body = read_json(await _body(request, CONTROL_BYTES), EnrollBody)
    platform = _platform(request)
    asked = Enrolment(
        vault_credentials=body.vault_credentials,
        host=body.host,
        platform=body.platform,
        public_key=body.public_key_pem,
        replace=body.replace,
        version=body.version,
    )
    desk, most = _desk(request), platform.settings.max_vault_machines
    done = await desk.run(enrol, platform.catalog, platform.clock, platform.rng, asked, most)
    desk.bell.ring(*done.replaced)  # they learn at once that they are
    vault = done.vault
    agent = done.agent
    request.state.principal = Principal(agent.client_id, "agent", agent.host, agent.id, ())
    note(request, container=done.container.name, vault=vault.name, replace=str(body.replace))
    base = f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"
    return {
        "agentId": done.agent.id,
        "clientId": done.agent.client_id,
        "tenantId": platform.tenant_id,
        "containerName": done.container.name,
        "vaultId": f"/subscriptions/{vault.subscription_id}/resourceGroups/{vault.group_key}"
        f"/providers/Microsoft.RecoveryServices/vaults/{vault.name}",
        "tokenEndpoint": f"{base}/adfs/oauth2/token",
    }


@post(
    f"{ONE}/next",
    status_code=200,
    request_max_body_size=None,
    opt=_passing("tasks/take/action"),
)
async def next_task(request: ArmRequest, agent_id: str) -> Body:
    """Long poll for the next task, or for news about running ones."""
    body = read_json(await _body(request, CONTROL_BYTES), NextBody)
    desk, platform = _desk(request), _platform(request)
    running = {task.task_id: task.fence for task in body.running}
    give_up = time.monotonic() + min(max(body.wait_seconds, 0.0), MAX_WAIT_SECONDS)
    while True:
        agent = await _agent(request, agent_id)
        if desk.copies.arrive(agent.id, agent.host, body.instance[:64]):
            desk.bell.ring(agent.id)
        listening = desk.bell.listen(agent.id)
        try:
            handed = await desk.run(desk.tasks.next, agent, running)
        except BaseException:
            desk.bell.silence(agent.id, listening)
            raise
        left = give_up - time.monotonic()
        wanted = bool(agent.properties.get(WANTED))
        news = handed.task is not None or handed.cancel or wanted
        if news or left <= 0 or desk.bell.closed:
            desk.bell.silence(agent.id, listening)
            if handed.task is not None:
                request.state.recorded = True
                note(request, task_id=handed.task.id, job_id=handed.task.job_id)
            elif handed.cancel or wanted:
                await asyncio.sleep(min(CANCEL_SECONDS, max(left, 0.0)))
            return _next_reply(handed, platform, wanted)
        if not await rung_in_time(request, desk.bell, agent.id, listening, left):
            return _next_reply(handed, platform, wanted)


def _next_reply(handed: Handed, platform: Platform, inventory: bool) -> Body:
    """``inventory``: the agent is to report its virtual machines now."""
    task = handed.task
    return {
        "inventory": inventory,
        "task": None if task is None else _task_body(task),
        "cancel": handed.cancel,
        "time": platform.clock.now().isoformat(),
    }


def _task_body(task: TaskRow) -> Body:
    return {
        "taskId": task.id,
        "fence": task.fence,
        "kind": task.kind,
        "jobId": task.job_id,
        "vaultId": task.vault_id,
        "itemKey": task.item_key,
        "payload": task.payload,
    }


@put(
    f"{ONE}/virtualMachines",
    status_code=200,
    request_max_body_size=None,
    opt=_passing("virtualMachines/write"),
)
async def put_machines(request: ArmRequest, agent_id: str) -> Body:
    """The virtual machines of the agent's own host, all of them. Recorded when others came or some
    are gone."""
    inventory = read_json(await _body(request, CONTROL_BYTES), Inventory)
    agent = await _agent(request, agent_id)
    platform = _platform(request)
    moved = await _desk(request).run(
        take_inventory, platform.catalog, platform.clock, platform.rng, agent, inventory
    )
    if moved.appeared or moved.gone:
        request.state.recorded = True
        note(request, appeared=moved.appeared[:NAMES_NOTED], gone=moved.gone[:NAMES_NOTED])
    return {}


@post(
    f"{TASK}/progress",
    status_code=200,
    request_max_body_size=None,
    opt=_passing("tasks/progress/action"),
)
async def progress(request: ArmRequest, agent_id: str, task_id: str) -> Body:
    """Report progress; the answer says whether to stop, and how fast a backup may send."""
    body = read_json(await _body(request, CONTROL_BYTES), ProgressBody)
    agent = await _agent(request, agent_id)
    report = Report(
        phase=body.phase,
        done_bytes=body.done_bytes,
        total_bytes=body.total_bytes,
        done_files=body.done_files,
        total_files=body.total_files,
        transferred_bytes=body.transferred_bytes,
        findings=body.findings,
        detail=body.detail,
        disks=[msgspec.to_builtins(disk) for disk in body.disks],
    )
    tasks = _desk(request).tasks
    stop = await _desk(request).run(tasks.progress, agent, task_id, body.fence, report)
    limits = await _desk(request).run(tasks.limits, task_id)
    undo = stop and await _desk(request).run(tasks.undone, task_id)
    return {"cancel": stop, "limits": limits, "undo": undo}


@post(
    f"{TASK}/complete",
    status_code=200,
    request_max_body_size=None,
    opt=_recorded("tasks/complete/action"),
)
async def complete(request: ArmRequest, agent_id: str, task_id: str) -> Body:
    """Say how a task ended."""
    body = read_json(await _body(request, CONTROL_BYTES), CompleteBody)
    if body.outcome not in OUTCOMES:
        raise UsageError(f"{body.outcome!r} is no outcome", code="InvalidBody")
    agent = await _agent(request, agent_id)
    completion = Completion(body.outcome, body.error or {}, body.result, body.findings)
    tasks = _desk(request).tasks
    await _desk(request).run(tasks.complete, agent, task_id, body.fence, completion)
    return {}


@post(
    f"{ONE}/sessions",
    status_code=200,
    request_max_body_size=None,
    opt=_recorded("sessions/write"),
)
async def open_session(request: ArmRequest, agent_id: str) -> Response[bytes]:
    """Open a vault session for a task; answers with the grant."""
    raw = await _body(request, CONTROL_BYTES)
    packed = request.headers.get("content-type", "").startswith(MSGPACK)
    body = read_msgpack(raw, SessionBody) if packed else read_json(raw, SessionBody)
    agent = await _agent(request, agent_id)
    data = _desk(request).data
    asked = (body.task_id, body.fence, body.witnesses[:MOST_WITNESSES])
    grant = await _desk(request).run(data.open_session, agent, *asked)
    note(request, session_id=grant.session_id.hex(), task_id=body.task_id)
    return _packed(encode_grant(grant))


@put(
    f"{SESSION}/packs/{{pack_id:str}}",
    status_code=200,
    request_max_body_size=None,
    opt=_passing("sessions/packs/write"),
)
async def put_pack(
    request: ArmRequest, agent_id: str, session_id: str, pack_id: str
) -> Response[Any]:
    """Receive one pack: checked while it streams, durable before the answer."""
    desk = _desk(request)
    if not desk.uploads.acquire(blocking=False):
        raise too_many_uploads()
    try:
        agent = await _agent(request, agent_id)
        receipt = await receive_pack(request, desk, agent, session_id, pack_id_of(pack_id))
    finally:
        desk.uploads.release()
    return _packed(msgspec.msgpack.encode(ReceiptReply(receipt=receipt)))


@post(
    f"{SESSION}/lookup",
    status_code=200,
    request_max_body_size=None,
    opt=_passing("sessions/lookup/action"),
)
async def lookup(request: ArmRequest, agent_id: str, session_id: str) -> Response[bytes]:
    """Presence of chunks: n x 48 bytes in, n bytes out."""
    body = await _body(request, LOOKUP_BYTES)
    if len(body) % 48:
        raise UsageError("a lookup is a multiple of 48 bytes", code="InvalidBody")
    agent = await _agent(request, agent_id)
    found = await _desk(request).run(_desk(request).data.lookup, agent, session_id, body)
    return _raw(found)


@post(
    f"{SESSION}/checkpoint",
    status_code=200,
    request_max_body_size=None,
    opt=_recorded("sessions/checkpoint/action"),
)
async def checkpoint(request: ArmRequest, agent_id: str, session_id: str) -> Body:
    """Add received packs to the index before the commit."""
    call = read_msgpack(await _body(request, DATA_BYTES), CheckpointCall)
    agent = await _agent(request, agent_id)
    data = _desk(request).data
    await _desk(request).run(data.checkpoint, agent, session_id, call.receipts)
    return {}


@post(
    f"{SESSION}/commit",
    status_code=200,
    request_max_body_size=None,
    opt=_recorded("sessions/commit/action"),
)
async def commit(request: ArmRequest, agent_id: str, session_id: str) -> Response[Any]:
    """Make the recovery point; 409 MissingChunks names what to send again."""
    call = read_msgpack(await _body(request, DATA_BYTES), CommitCall)
    agent = await _agent(request, agent_id)
    record = await _desk(request).run(
        _desk(request).data.commit, agent, session_id, call.receipts, call.root_id, call.claims
    )
    note(request, recovery_point=record.rp_id, **await _sums(request, session_id))
    witness = await _desk(request).run(_desk(request).data.witness, agent, session_id)
    reply = {"recoveryPointId": record.rp_id, "witness": witness}
    return _packed(msgspec.msgpack.encode(reply))


@post(
    f"{SESSION}/close",
    status_code=200,
    request_max_body_size=None,
    opt=_recorded("sessions/close/action"),
)
async def close_session(request: ArmRequest, agent_id: str, session_id: str) -> Body:
    """End a session."""
    agent = await _agent(request, agent_id)
    await _desk(request).run(_desk(request).data.close, agent, session_id)
    note(request, **await _sums(request, session_id))
    return {}


async def _sums(request: ArmRequest, session_id: str) -> Body:
    """What a session sent and asked so far, for the audit record."""
    return await _desk(request).run(_desk(request).data.sums, session_id)


@post(
    f"{SESSION}/locate",
    status_code=200,
    request_max_body_size=None,
    opt=_passing("sessions/locate/action"),
)
async def locate(request: ArmRequest, agent_id: str, session_id: str) -> Response[bytes]:
    """Locations and frame keys of up to 4,096 ids of 32 bytes."""
    body = await _body(request, LOCATE_BYTES)
    agent = await _agent(request, agent_id)
    found = await _desk(request).run(_desk(request).data.locate, agent, session_id, body)
    return _packed(await _desk(request).run(locations_reply, found))


@get(f"{SESSION}/packs/{{pack_id:str}}", opt=_passing("sessions/packs/read"))
async def read_pack_frames(
    request: ArmRequest, agent_id: str, session_id: str, pack_id: str
) -> Response[Any]:
    """Ciphertext of ``?frames=3-17,20``, concatenated in that order."""
    frames = parse_frames(request.query_params.get("frames", ""))
    agent = await _agent(request, agent_id)
    desk = _desk(request)
    found = await desk.run(desk.data.read_frames, agent, session_id, pack_id_of(pack_id), frames)
    first = await desk.run(next, found.pieces, b"")
    return Stream(
        _streamed(first, found.pieces, desk),
        media_type="application/octet-stream",
        headers={"Content-Length": str(found.size)},
    )


async def _streamed(first: bytes, pieces: Iterator[bytes], desk: AgentDesk) -> AsyncIterator[bytes]:
    async with desk.reads:
        piece = first
        while piece:
            yield piece
            piece = await desk.run(next, pieces, b"")


def _packed(data: bytes) -> Response[bytes]:
    return Response(data, media_type=MSGPACK, status_code=200)


def _raw(data: bytes) -> Response[bytes]:
    return Response(data, media_type="application/octet-stream", status_code=200)


agent_routes = [
    enroll,
    next_task,
    put_machines,
    progress,
    complete,
    open_session,
    put_pack,
    lookup,
    checkpoint,
    commit,
    close_session,
    locate,
    read_pack_frames,
]
