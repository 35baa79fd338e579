"""Bodies of the agent API. JSON for control calls, msgpack for data calls; all decoded strictly."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from holdfast.errors import UsageError
from holdfast.ports.vm_tasks import MAX_DISKS, DiskProgress
from holdfast.vaultstore.values import FrameLocation, PointClaims

T = TypeVar("T")


class _Camel(msgspec.Struct, kw_only=True, rename="camel"):
    """JSON and msgpack keys are camelCase."""


class EnrollBody(_Camel):
    vault_credentials: str
    host: str
    platform: str
    public_key_pem: str
    replace: bool = False
    version: str = ""


class RunningTask(_Camel):
    task_id: str
    fence: int


class NextBody(_Camel):
    """``wait_seconds``: how long the server may wait for work. ``instance``: a random name that the
    agent's process gave itself when it started."""

    wait_seconds: float = 0.0
    instance: str = ""
    running: list[RunningTask] = []


class ProgressBody(_Camel):
    fence: int
    phase: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    done_files: int = 0
    total_files: int | None = None
    transferred_bytes: int = 0
    findings: list[dict[str, Any]] = []
    detail: str = ""
    disks: Annotated[list[DiskProgress], msgspec.Meta(max_length=MAX_DISKS)] = []


class CompleteBody(_Camel):
    """``outcome``: succeeded | failed | cancelled."""

    fence: int
    outcome: str
    error: dict[str, Any] | None = None
    result: dict[str, Any] = {}
    findings: list[dict[str, Any]] = []


class SessionBody(_Camel):
    task_id: str
    fence: int
    witnesses: list[bytes] = []


class CheckpointCall(_Camel):
    receipts: list[bytes]


class CommitCall(_Camel):
    receipts: list[bytes]
    root_id: bytes
    claims: PointClaims = PointClaims()


class ReceiptReply(_Camel):
    receipt: bytes


def read_msgpack(data: bytes, kind: type[T]) -> T:
    """UsageError (InvalidBody) naming what is wrong."""
    try:
        return msgspec.msgpack.decode(data, type=kind, strict=True)
    except msgspec.DecodeError as error:
        raise _invalid(error) from error


def read_json(data: bytes, kind: type[T]) -> T:
    """UsageError (InvalidBody) naming what is wrong."""
    try:
        return msgspec.json.decode(data, type=kind, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid(error) from error


def _invalid(error: Exception) -> UsageError:
    return UsageError(
        f"the request body is not what this call takes: {error}",
        code="InvalidBody",
        hint="use an agent of the server's version",
    )


def locations_reply(found: list[FrameLocation]) -> bytes:
    """Rows of a locate answer, as msgpack."""
    return msgspec.msgpack.encode(found)


def pack_id_of(text: str) -> bytes:
    """16 bytes from 32 hex digits. UsageError (InvalidId)."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16:
        raise UsageError(f"{text[:64]!r} is no pack id", code="InvalidId")
    return found


def parse_frames(text: str, limit: int = 100_000) -> list[int]:
    """Frame numbers of ``3-17,20``, in the order given. UsageError (InvalidFrames)."""
    frames: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            low = int(first)
            high = int(last) if dash else low
            if not 0 <= low <= high < 1 << 32 or len(frames) + high - low >= limit:
                raise ValueError
            frames.extend(range(low, high + 1))
    except ValueError as error:
        raise UsageError(
            "the frames asked for are not numbers and ranges like 3-17,20",
            code="InvalidFrames",
        ) from error
    return frames
