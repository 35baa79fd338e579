"""Thaws a guest that was left frozen: a program of its own, run as a file.

Started before a freeze and waiting on a pipe, it sees the pipe close without the word "done" when
the agent is killed right then, and does what the agent cannot do any more. It imports nothing of
ours but the binding of libvirt, from where the agent found it.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

GIVE_UP_SECONDS = 180.0
RETRY_SECONDS = 0.5
DONE = "done"


def thaw(uri: str, uuid: str, places: list[str], seconds: float = GIVE_UP_SECONDS) -> bool:
    """As often as it takes, for so long; False when it did not happen."""
    sys.path += places
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            return _attempt(libvirt, uri, uuid)
        except libvirt.libvirtError:
            time.sleep(RETRY_SECONDS)
    return False


def _attempt(libvirt: Any, uri: str, uuid: str) -> bool:
    """libvirtError when it is to be tried again."""
    domain = libvirt.open(uri).lookupByUUIDString(uuid)
    if domain.isActive():
        domain.fsThaw()
    return True


def main() -> None:
    """Reads a line that says what to thaw, then waits for "done" or the end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    line = sys.stdin.readline().strip()
    given = json.loads(line)
    if sys.stdin.readline().strip() == DONE:
        return
    note = Path(given["note"])
    thawed = thaw(given["uri"], given["uuid"], given["places"])
    if thawed and note.exists() and note.read_text() == line:  # not a later window's
        note.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
