"""How a workload reaches its vault: the agent over HTTPS, or in one process for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.values import FrameLocation

Pace = Callable[[int], object]


class BackupTransport(Protocol):
    """One backup session. Calls may come from several threads. A lost reply is retried inside with
    the same bytes; what is raised is final."""

    @property
    def grant(self) -> SessionGrant: ...

    def put_pack(self, pack_id: bytes, data: memoryview, pace: Pace | None = None) -> bytes:
        """Send a pack; its receipt. ``pace`` is told the bytes of each piece before it is sent, and
        may wait; a transport that sends in one piece does not ask it."""
        ...

    def lookup(self, names: bytes) -> bytes:
        """n x 48 bytes in, n bytes out (1 = present)."""
        ...

    def checkpoint(self, receipts: Sequence[bytes]) -> None: ...

    def commit(self, receipts: Sequence[bytes], root_id: bytes, claims: dict[str, Any]) -> str:
        """The recovery point's id. ConflictError MissingChunks when something is to be resent."""
        ...

    def close(self) -> None: ...


class RestoreTransport(Protocol):
    """One restore session: frames of one recovery point. Calls may come from several threads."""

    @property
    def grant(self) -> SessionGrant: ...

    def locate(self, ids: bytes) -> list[FrameLocation]:
        """Locations and keys of up to 4,096 packed 32-byte ids, in the order asked."""
        ...

    def read_frames(self, pack_id: bytes, frames: Sequence[int]) -> Buffer:
        """Ciphertext of these frames, concatenated in the order asked; valid until the same
        thread's next call."""
        ...

    def close(self) -> None: ...
