"""The QEMU guest agent's side channel: one JSON line there, one back.

The channel has no greeting and keeps what a former client left in it, so a client first sends a
sync with a number and reads until that number comes back (0xFF marks the place). A command may sit
in the channel while the agent sleeps and be carried out when it wakes, so nothing is sent before a
sync was answered, and after a call that ran out of time the connection is of no use any more.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from holdfast.errors import SourceError

SYNC_SECONDS = 3.0
CALL_SECONDS = 10.0
MAX_ANSWER = 4 * 1024 * 1024  # bytes
MARK = b"\xff"
CHUNK = 64 * 1024
_numbers = itertools.count(int.from_bytes(os.urandom(3), "big") << 8)


class AgentSilentError(SourceError):
    """No answer in time, or the channel is broken. What was asked may happen later."""

    code = "GuestAgentSilent"


class AgentRefusedError(SourceError):
    """The agent answered with an error; ``said``: its words, ``kind``: its class."""

    code = "GuestAgentRefused"

    def __init__(self, command: str, kind: str, said: str) -> None:
        super().__init__(f"the guest agent refused {command}: {said}")
        self.kind = kind
        self.said = said


class GuestAgent:
    """Connected and in step after construction; AgentSilentError when that fails. One call at a
    time, from any thread."""

    def __init__(self, path: Path, *, timeout: float = SYNC_SECONDS) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
            self._sync(timeout)
        except OSError as error:
            self.close()
            raise self._silent(error.strerror or "no answer") from error
        except BaseException:
            self.close()
            raise

    def _sync(self, timeout: float) -> None:
        number = next(_numbers)
        until = time.monotonic() + timeout
        self._send("guest-sync-delimited", {"id": number}, mark=MARK)
        while True:
            self._read_to(MARK, until)
            line = self._read_to(b"\n", until)
            if line.strip() and _decoded(line).get("return") == number:
                return

    def call(self, command: str, *, timeout: float = CALL_SECONDS, **arguments: Any) -> Any:
        """What the agent returns; underscores in names become "-". AgentRefusedError,
        AgentSilentError (then the connection is closed)."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        with self._lock:
            try:
                until = time.monotonic() + timeout
                self._send(command, named)
                answer = _decoded(self._read_to(b"\n", until))
            except OSError as error:
                self.close()
                raise self._silent(f"{command}: {error.strerror or 'no answer'}") from error
            except AgentSilentError:
                self.close()
                raise
        if "error" in answer:
            said = answer["error"] if isinstance(answer["error"], dict) else {}
            raise AgentRefusedError(command, str(said.get("class")), str(said.get("desc")))
        return answer.get("return")

    def read_file(self, path: str, limit: int = 64 * 1024) -> bytes | None:
        """Up to ``limit`` bytes of a file in the guest, or None when it cannot be opened."""
        try:
            handle = self.call("guest-file-open", path=path, mode="r")
        except AgentRefusedError:
            return None
        try:
            answer = self.call("guest-file-read", handle=handle, count=limit)
            return base64.b64decode(answer["buf-b64"])
        except (AgentRefusedError, KeyError, TypeError, ValueError):
            return None
        finally:
            self.call("guest-file-close", handle=handle)

    def write_file(self, path: str, content: bytes) -> bool:
        """False when the guest does not let us."""
        try:
            handle = self.call("guest-file-open", path=path, mode="w")
        except AgentRefusedError:
            return False
        try:
            text = base64.b64encode(content).decode()
            self.call("guest-file-write", handle=handle, buf_b64=text)
        except AgentRefusedError:
            return False
        finally:
            self.call("guest-file-close", handle=handle)
        return True

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def _send(self, command: str, arguments: dict[str, Any], mark: bytes = b"") -> None:
        message = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self._socket.sendall(mark + json.dumps(message).encode() + b"\n")

    def _read_to(self, end: bytes, until: float) -> bytes:
        """What comes before ``end``, which is taken away too."""
        while (at := self._rest.find(end)) < 0:
            if len(self._rest) > MAX_ANSWER:
                raise self._silent(f"an answer is longer than {MAX_ANSWER} bytes")
            left = until - time.monotonic()
            if left <= 0:
                raise self._silent("no answer in time")
            self._socket.settimeout(left)
            data = self._socket.recv(CHUNK)
            if not data:
                raise self._silent("the channel was closed")
            self._rest += data
        found, self._rest = self._rest[:at], self._rest[at + 1 :]
        return found

    def _silent(self, why: str) -> AgentSilentError:
        return AgentSilentError(
            f"the guest agent on {self._path} does not answer: {why}",
            hint="see whether qemu-ga runs in the guest",
            retry="later",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def send_unheard(path: Path, command: str) -> bool:
    """Put a command into the channel without waiting for an answer: used to thaw a guest whose
    agent is busy, so that a freeze it finishes later does not last. False when the channel did not
    take it; never raises."""
    with socket.socket(socket.AF_UNIX) as channel:
        try:
            channel.settimeout(SYNC_SECONDS)
            channel.connect(str(path))
            channel.sendall(MARK + json.dumps({"execute": command}).encode() + b"\n")
        except OSError:
            return False
    return True


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
