"""Runs a program for as long as the pipe on its standard input stays open.

A storage daemon holds the lock of an image, and a machine that is off cannot be started while it
does; it must not outlive the agent, however that ends. Run as a file: ``python -I keeper.py ...``
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

END_SECONDS = 20


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    waiting = os.pidfd_open(child.pid)
    ready, _, _ = select.select([sys.stdin, waiting], [], [])
    if waiting not in ready:
        child.terminate()  # an orderly end: bitmaps are stored
    try:
        return child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


if __name__ == "__main__":
    sys.exit(main())
