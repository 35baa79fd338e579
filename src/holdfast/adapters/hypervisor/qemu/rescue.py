"""Lets a guest go on that was left frozen or stopped: a program of its own, and two functions.

A backup stops the virtual CPUs for a few milliseconds while the guest's file systems are frozen.
Should the agent be killed right then, this program, started before and waiting on a pipe, sees the
pipe close without the word "done" and does what the agent cannot do any more. It is run as a file
(``python -I rescue.py``) and imports nothing of ours, so that it starts fast and cannot be broken
by a half-replaced installation.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

GIVE_UP_SECONDS = 180.0  # a hung disk holds QEMU up, and the dead agent may still be its client
STEP_SECONDS = 5.0
RETRY_SECONDS = 0.2
DONE = "done"


class _Lines:
    """JSON lines over a unix socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(STEP_SECONDS)
        self._rest = b""
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def send(self, message: dict[str, Any], mark: bytes = b"") -> None:
        self._socket.sendall(mark + json.dumps(message).encode() + b"\n")

    def receive(self, end: bytes = b"\n") -> bytes:
        while end not in self._rest:
            data = self._socket.recv(65536)
            if not data:
                raise OSError("closed")
            self._rest += data
        line, _, self._rest = self._rest.partition(end)
        return line

    def answer(self) -> Any:
        """The next answer; events and the greeting are passed over."""
        while True:
            message = json.loads(self.receive())
            if "return" in message or "error" in message:
                return message.get("return")

    def ask(self, command: str) -> Any:
        self.send({"execute": command})
        return self.answer()

    def close(self) -> None:
        self._socket.close()


def resume(qmp: str) -> bool:
    """Start the virtual CPUs of a machine that is paused. OSError when the monitor is not free."""
    lines = _Lines(qmp)
    try:
        lines.receive()
        lines.ask("qmp_capabilities")
        if lines.ask("query-status").get("status") != "paused":
            return False
        lines.ask("cont")
        return True
    finally:
        lines.close()


def thaw(agent: str) -> bool:
    """Thaw the guest's file systems. OSError when the guest agent does not answer."""
    lines = _Lines(agent)
    try:
        number = time.monotonic_ns() % (1 << 31)
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        lines.send(sync, mark=b"\xff")
        while True:
            lines.receive(b"\xff")
            if json.loads(lines.receive()).get("return") == number:
                break
        return lines.ask("guest-fsfreeze-thaw") is not None
    finally:
        lines.close()


def rescue(
    qmp: str,
    agent: str,
    seconds: float = GIVE_UP_SECONDS,
    owed: Callable[[], bool] = lambda: True,
    resumed: Callable[[], None] = lambda: None,
) -> bool:
    """Both, as often as it takes, each for so long; False when one of them did not happen. An empty
    ``agent``: nothing was frozen; an empty ``qmp``: the processors run. ``resumed`` is called once
    they do. ``owed`` False: somebody else did it, so nothing more is sent."""
    runs = not qmp or _insist(lambda: resume(qmp) or True, seconds, owed)
    if runs and qmp:
        resumed()
    return (not agent or _insist(lambda: thaw(agent), seconds, owed)) and runs


def _insist(attempt: Callable[[], bool], seconds: float, owed: Callable[[], bool]) -> bool:
    """Until it is done, or the machine ended: then nobody listens on its sockets."""
    until = time.monotonic() + seconds
    while owed() and time.monotonic() < until:
        try:
            if attempt():
                return True
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except (OSError, ValueError, AttributeError, RecursionError):
            pass
        time.sleep(RETRY_SECONDS)
    return False


class _Note:
    """Of a window; ``text`` is what it should hold."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self._text = path, text

    def owed(self) -> bool:
        """It is still the one of this window, not a later one's, and nobody else is at it."""
        try:
            return self.path.read_text() == self._text
        except OSError:
            return False

    def resumed(self) -> None:
        """From now on it asks for a thaw only: whoever finds it resumes nobody else's pause."""
        text = thaw_only(self._text)
        fresh = self.path.with_name(self.path.name + ".new")
        if self.owed():
            with suppress(OSError):
                fresh.write_text(text)
                fresh.replace(self.path)
                self._text = text


def thaw_only(note: str) -> str:
    """A note whose guest has its processors running again."""
    return json.dumps(json.loads(note) | {"qmp": ""})


def main() -> None:
    """Reads a line with the sockets and the note of the window, then waits for "done" or the end.
    The note goes once the guest goes on; from its resuming on a pause is an administrator's."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    line = sys.stdin.readline().strip()
    given = json.loads(line)
    note = _Note(Path(given["note"]), line)
    if sys.stdin.readline().strip() == DONE:
        return
    if rescue(given["qmp"], given["agent"], owed=note.owed, resumed=note.resumed) and note.owed():
        note.path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
