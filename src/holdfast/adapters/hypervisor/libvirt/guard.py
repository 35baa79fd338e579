"""The window in which a guest is frozen, guarded against our own death in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

from holdfast.adapters.hypervisor.libvirt import rescue
from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.errors import InternalError, SourceError
from holdfast.files import write_whole

END_SECONDS = 10


class Guard:
    """A process that thaws the guest when we die before ``end`` or could not do it ourselves, and a
    note for the next start in case both are killed. Only where a freeze will be sent."""

    def __init__(self, connection: Connection, uuid: str, note: Path) -> None:
        self._note = note
        place = str(Path(str(connection.libvirt.__file__)).parent)
        given = {
            "uri": connection.uri,
            "uuid": uuid,
            "places": [place],
            "note": str(note),
            "window": os.urandom(8).hex(),
        }
        line = json.dumps(given)
        write_whole(note, line.encode())
        words = [sys.executable, "-I", str(rescue.__file__)]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._tell(line)

    def end(self, *, thawed: bool) -> None:
        """The window is over; unless the guest is thawed, process and note see to it."""
        if thawed:
            self._tell(rescue.DONE)
        with suppress(OSError):
            self._input.close()
        if not thawed:
            Thread(target=self._process.wait, name="guard", daemon=True).start()
            return
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._note.unlink(missing_ok=True)

    @property
    def _input(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise InternalError("the guard was started without a pipe")
        return self._process.stdin

    def _tell(self, line: str) -> None:
        with suppress(OSError):
            self._input.write(line.encode() + b"\n")
            self._input.flush()


def finish_interrupted(connection: Connection, note: Path) -> None:
    """What a guard could not do, or not yet. SourceError (GuestNotResumed); the note stays then."""
    if not note.exists():
        return
    try:
        uuid = str(json.loads(note.read_bytes())["uuid"])
    except (OSError, ValueError, KeyError, TypeError):
        uuid = note.stem
    domain = connection.domain(uuid)
    try:
        if domain.isActive():
            domain.fsThaw()
    except connection.error as error:
        raise SourceError(
            f"the guest {domain.name()} may still be frozen by a backup that broke off: {error}",
            code="GuestNotResumed",
            hint="see whether its guest agent answers: virsh domfsthaw NAME; if it never will, "
            f"restart the machine and remove {note}",
            retry="later",
        ) from error
    note.unlink(missing_ok=True)
