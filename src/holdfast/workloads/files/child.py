"""Helper processes of the agent: messages over pipes, in both directions.

A child ends when its input does, so it never outlives the agent for long, however that dies; one
that changes something asks before each change whether anybody is left (``abandoned_when_closed``).
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any

import msgspec

log = logging.getLogger(__name__)
END_SECONDS = 5.0
PIPE_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<I")


class ChildLostError(Exception):
    """A helper process ended before its time."""


class Child:
    """A started helper: ``send`` it messages, ``receive`` its answers; or, from several threads,
    ``ask`` it questions, which it answers in order."""

    def __init__(self, module: str, *arguments: str, pass_fds: Sequence[int] = ()) -> None:
        """OSError when it cannot be started."""
        inner, orders = os.pipe()
        try:
            answers, outer = os.pipe()
        except OSError:
            os.close(inner)
            os.close(orders)
            raise
        try:
            command = [sys.executable, "-P", "-m", module, *arguments]
            self._process = subprocess.Popen(command, stdin=inner, stdout=outer, pass_fds=pass_fds)
        except OSError:
            os.close(orders)
            os.close(answers)
            raise
        finally:
            os.close(inner)
            os.close(outer)
        _widen(answers)
        self._orders = os.fdopen(orders, "wb")
        self._answers = os.fdopen(answers, "rb")
        self._asking = threading.Lock()
        self._last = threading.Event()
        self._last.set()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: msgspec.Struct) -> None:
        """ChildLostError when nobody is there."""
        try:
            send(self._orders, message)
        except (OSError, ValueError) as error:
            raise ChildLostError(str(error)) from error

    def receive(self) -> bytes:
        """The next message. ChildLostError when there is none."""
        try:
            found = receive(self._answers)
        except (OSError, ValueError) as error:
            raise ChildLostError(str(error)) from error
        if found is None:
            raise ChildLostError(f"it ended with {self._process.poll()}")
        return found

    def ask(self, message: msgspec.Struct) -> Callable[[], bytes]:
        """Send a question; the result waits for the answer and must be called once, from any
        thread. Both raise ChildLostError. The child always has the next question at hand."""
        mine = threading.Event()
        with self._asking:
            before, self._last = self._last, mine
            try:
                self.send(message)
            except ChildLostError:
                self._last = before  # nothing is to come for this one
                raise

        def answer() -> bytes:
            before.wait()
            try:
                return self.receive()
            finally:
                mine.set()

        return answer

    def kill(self) -> None:
        """End the process at once, from any thread; whoever waits for it gets ChildLostError."""
        self._process.kill()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:  # in the kernel; it does nothing more when it returns
            log.warning("helper process %d was killed and has not ended yet", self._process.pid)

    def close(self) -> None:
        """End the process; nobody may be using it."""
        for pipe in (self._orders, self._answers):
            with suppress(OSError):
                pipe.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("helper process %d did not end; killing it", self._process.pid)
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel is left behind
                self._process.wait(END_SECONDS)


def _widen(pipe: int) -> None:
    """Let a child run further ahead, where the system allows it (Linux)."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def send(pipe: IO[bytes], message: msgspec.Struct) -> None:
    data = msgspec.msgpack.encode(message)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes | None:
    """The next message; None at the end."""
    lead = pipe.read(_LENGTH.size)
    if len(lead) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(lead)
    data = pipe.read(length)
    return data if len(data) == length else None


def abandoned_when_closed(pipe: IO[bytes]) -> Callable[[], bool]:
    """Asks whether nobody is left at the other end, although messages may still lie in ``pipe``."""
    if not hasattr(select, "poll"):
        return lambda: False
    poll = select.poll()
    poll.register(pipe.fileno(), 0)  # being closed is told unasked
    return lambda: bool(poll.poll(0))


def run(serve: Callable[[IO[bytes], IO[bytes]], Any]) -> None:
    """The main program of a child: Ctrl-C is the agent's to obey, and nothing here is cyclic."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # no flushing into a pipe nobody reads
