"""Vault sessions over the agent API."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.agent.client import AgentClient, frames_parameter
from holdfast.agent.heads import HeadKeeper
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.grant import SessionGrant, decode_grant
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.transport import Pace

RAW = {"Content-Type": "application/octet-stream"}
PACKED = {"Content-Type": "application/msgpack"}
_LOCATIONS = msgspec.msgpack.Decoder(list[FrameLocation])
ROOM_BYTES = 4 * 1024 * 1024  # a run of frames, as restores ask for them


class _Own(threading.local):
    """What a thread keeps for the frames it reads: memory that is used again and again."""

    def __init__(self) -> None:
        self.room = memoryview(mmap.mmap(-1, ROOM_BYTES))


_own = _Own()


class HttpSession:
    """Serves both a backup and a restore, as the task's kind grants."""

    def __init__(
        self, client: AgentClient, task_id: str, fence: int, heads: HeadKeeper | None = None
    ) -> None:
        self._client = client
        self._heads = heads
        seen = heads.all() if heads is not None else []
        body = msgspec.json.encode({"taskId": task_id, "fence": fence, "witnesses": seen})
        headers = {"Content-Type": "application/json"}
        answer = client.send("POST", "/sessions", content=body, headers=headers)
        self._grant = decode_grant(answer)
        self._keep(self._grant.witness)
        self._base = f"/sessions/{self._grant.session_id.hex()}"

    @property
    def grant(self) -> SessionGrant:
        return self._grant

    def put_pack(self, pack_id: bytes, data: memoryview, pace: Pace | None = None) -> bytes:
        answer = self._client.put(f"{self._base}/packs/{pack_id.hex()}", data, pace)
        receipt: bytes = msgspec.msgpack.decode(answer)["receipt"]
        return receipt

    def lookup(self, names: bytes) -> bytes:
        return self._client.send("POST", f"{self._base}/lookup", content=names, headers=RAW)

    def checkpoint(self, receipts: Sequence[bytes]) -> None:
        self._packed("checkpoint", {"receipts": list(receipts)})

    def commit(self, receipts: Sequence[bytes], root_id: bytes, claims: dict[str, Any]) -> str:
        body = {"receipts": list(receipts), "rootId": root_id, "claims": claims}
        answer = msgspec.msgpack.decode(self._packed("commit", body))
        self._keep(answer.get("witness", b""))
        return str(answer["recoveryPointId"])

    def _keep(self, witness: bytes) -> None:
        if self._heads is not None:
            self._heads.keep(self._grant.vault_id, witness)

    def locate(self, ids: bytes) -> list[FrameLocation]:
        path = f"{self._base}/locate"
        return _LOCATIONS.decode(self._client.send("POST", path, content=ids, headers=RAW))

    def read_frames(self, pack_id: bytes, frames: Sequence[int]) -> Buffer:
        path = f"{self._base}/packs/{pack_id.hex()}"
        return self._client.fetch(path, {"frames": frames_parameter(frames)}, _own.room)

    def close(self) -> None:
        self._client.send("POST", f"{self._base}/close", content=b"{}")

    def _packed(self, name: str, body: Any) -> bytes:
        content = msgspec.msgpack.encode(body)
        return self._client.send("POST", f"{self._base}/{name}", content=content, headers=PACKED)
