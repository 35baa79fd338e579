"""Asking the appliance, and reading what it says. It may have been taken over by a file system made
for that: nothing it says is trusted to be short, complete or true."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

from holdfast.adapters.appliance.inside import wire
from holdfast.errors import CancelledError, HoldfastError, NotFoundError, SourceError

LOOK_SECONDS = 0.5  # between looks whether to stop
MAX_ANSWER = 10_000  # frames of an answer that is short
ANSWER_SECONDS = 600.0
BROWSE = "browse from the top: holdfast vm browse VM --recovery-point RP /"
CODES = ("PathNotFound", "VolumeEncrypted", "FileSystemUnknown", "FileSystemUnreadable")


class Channel:
    """One question at a time. ``silence_seconds``: how long one piece of an answer may take;
    ``answer_seconds``: a whole answer that is short.

    SourceError (ApplianceSilent, ApplianceLost, ApplianceConfused), CancelledError."""

    def __init__(
        self,
        port: socket.socket,
        silence_seconds: float,
        stopped: Callable[[], bool],
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._port = port
        self._silence = silence_seconds
        self._answer = answer_seconds
        self._stopped = stopped
        port.settimeout(LOOK_SECONDS)

    def greet(self) -> None:
        """Until it is up."""
        kind, _ = self._frame()
        if kind != wire.READY:
            raise confused("it did not greet")

    def ask(self, *fields: bytes, short: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Frames of the answer; of the last only what it says ("" or "more"). One that is ``short``
        has no content and is over soon. NotFoundError (PathNotFound), SourceError
        (VolumeEncrypted, ...)."""
        request = b"\0".join(fields)
        self._send(wire.LENGTH.pack(len(request)) + request)
        begun, frames = time.monotonic(), 0
        while True:
            kind, payload = self._frame()
            if kind == wire.END:
                if payload not in (b"", b"more"):
                    raise told(payload)
                yield kind, payload
                return
            frames += 1
            if short and frames > MAX_ANSWER:
                raise confused("its answer does not end")
            if short and time.monotonic() - begun > self._answer:
                raise silent(f"no whole answer came within {self._answer:.0f} seconds")
            yield kind, payload

    def _send(self, data: bytes) -> None:
        view, since = memoryview(data), time.monotonic()
        while view:
            self._check(since)
            try:
                view = view[self._port.send(view) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise lost() from error

    def _frame(self) -> tuple[bytes, bytes]:
        since = time.monotonic()
        kind, length = wire.HEAD.unpack(self._exactly(wire.HEAD.size, since))
        if length > wire.MAX_FRAME:
            raise confused("a piece is too long")
        return kind, bytes(self._exactly(length, since))

    def _exactly(self, count: int, since: float) -> bytearray:
        """So many bytes of the piece that is awaited ``since`` then."""
        found = bytearray(count)
        view = memoryview(found)
        while view:
            self._check(since)
            try:
                got = self._port.recv_into(view)
            except TimeoutError:
                continue
            except OSError as error:
                raise lost() from error
            if not got:
                raise lost()
            view = view[got:]
        return found

    def _check(self, since: float) -> None:
        if self._stopped():
            raise CancelledError("the task was cancelled")
        if time.monotonic() - since > self._silence:
            raise silent(f"no piece of an answer came within {self._silence:.0f} seconds")


def silent(why: str) -> SourceError:
    return SourceError(
        f"the machine that reads the file systems is too slow: {why}",
        code="ApplianceSilent",
        hint="the file system may be damaged so that reading it never ends: try another "
        "recovery point, or restore the disk",
    )


def told(payload: bytes) -> HoldfastError:
    """An error in the appliance's words."""
    code, _, words = payload.decode(errors="backslashreplace").partition("\0")
    message = words[:1000]
    match code:
        case "PathNotFound":
            return NotFoundError(message, code="PathNotFound", hint=BROWSE)
        case "VolumeEncrypted":
            hint = "restore the disk, and open it with its key"
            return SourceError(message, code="VolumeEncrypted", hint=hint)
        case "FileSystemUnknown":
            hint = "restore the disk, and look into it with a system that knows it"
            return SourceError(message, code="FileSystemUnknown", hint=hint)
        case "FileSystemUnreadable":
            hint = "the file system is damaged: take another recovery point, or restore the disk"
            return SourceError(message, code="FileSystemUnreadable", hint=hint)
    return confused(f"it says {payload[:100]!r}")


def lost() -> SourceError:
    return SourceError(
        "the machine that reads the file systems ended",
        code="ApplianceLost",
        hint="a damaged file system may have stopped its kernel: the agent's log has its last "
        "words",
    )


def confused(why: str) -> SourceError:
    return SourceError(
        f"the machine that reads the file systems answers nonsense: {why}",
        code="ApplianceConfused",
        hint="the file system may be made to do harm: restore the disk, and look at it with care",
    )
