"""The window in which a guest stands still, guarded against our own death in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

from holdfast.adapters.hypervisor.qemu import rescue
from holdfast.errors import InternalError, SourceError
from holdfast.files import write_whole
from holdfast.machine_settings import MachineEntry

END_SECONDS = 10
RESCUE_SECONDS = 20.0  # each for the monitor and the agent


def piped(process: subprocess.Popen[bytes]) -> IO[bytes]:
    """Its standard input."""
    if process.stdin is None:
        raise InternalError("the program was started without a pipe")
    return process.stdin


class Guard:
    """A process that lets the guest go on when we die before ``end`` or cannot do it ourselves,
    and a note for the next start in case both are killed. ``freezes``: a freeze may be sent.
    ``stands``: the virtual CPUs may be stopped, as far as we know."""

    def __init__(self, entry: MachineEntry, note: Path, *, freezes: bool) -> None:
        self.stands = False
        self._note = note
        agent = entry.agent if freezes else ""
        window = os.urandom(8).hex()
        given = {"qmp": entry.qmp, "agent": agent, "note": str(note), "window": window}
        write_whole(note, json.dumps(given).encode())
        words = [sys.executable, "-I", str(rescue.__file__)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self._input = piped(self._process)
        self._tell(json.dumps(given))

    def end(self, *, thawed: bool) -> None:
        """The window is over. Unless the guest surely goes on, the process is left to see to it,
        and the note to the next start."""
        if self.stands or not thawed:
            with suppress(OSError):
                self._input.close()
            Thread(target=self._process.wait, name="guard", daemon=True).start()
            return
        self._tell(rescue.DONE)
        with suppress(OSError):
            self._input.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._note.unlink(missing_ok=True)

    def _tell(self, line: str) -> None:
        with suppress(OSError):
            self._input.write(line.encode() + b"\n")
            self._input.flush()


def finish_interrupted(note: Path) -> None:
    """What a guard could not do, or not yet: it was killed too, or its time was over. SourceError
    (GuestNotResumed) when it cannot be done now either; the note stays for the next try."""
    try:
        given = json.loads(note.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        given = {}

    def resumed() -> None:
        write_whole(note, rescue.thaw_only(json.dumps(given)).encode())

    qmp, agent = str(given.get("qmp", "")), str(given.get("agent", ""))
    if not rescue.rescue(qmp, agent, RESCUE_SECONDS, resumed=resumed):
        raise SourceError(
            f"the guest behind {qmp or agent} may still be paused or frozen by a backup that broke "
            "off",
            code="GuestNotResumed",
            hint="see whether QEMU's monitor and the guest agent answer; if neither ever will, "
            f"restart the machine and remove {note}",
            retry="later",
        )
    note.unlink(missing_ok=True)
