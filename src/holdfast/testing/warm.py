"""Programs of an installation, forked from a process that has their modules loaded already: three
of the four CPU seconds in which a server starts are imports, and tests start hundreds.

What runs in the child is the program's own entry, in the environment given, with files for what it
prints. What must be a process from its first byte (an interpreter's own variables, a terminal, a
pipe) is started with ``subprocess``.
"""

from __future__ import annotations

import atexit
import ctypes
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from pathlib import Path

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["holdfast.testing.preloaded", "holdfast.testing.job_yard"])
DIE_WITH_PARENT = 1  # prctl(2)
# What an interpreter or its libraries look at before any of our code runs.
EARLY = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "OPENBLAS_", "OMP_")


class Running:
    """A started program, with the part of ``subprocess.Popen`` that tests need."""

    def __init__(self, life: Callable[..., None], *words: object) -> None:
        self._process = FORKING.Process(target=life, args=words, daemon=True)
        self._process.start()
        self._life = life.__name__

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def wait(self, timeout: float | None = None) -> int:
        """subprocess.TimeoutExpired when it runs longer (seconds)."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._life, timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Program = Running | subprocess.Popen[bytes]


def is_early(environment: Mapping[str, str]) -> bool:
    """Whether these variables, other than here, would have worked before any of our code."""
    names = {*environment, *os.environ}
    return any(
        environment.get(name) != os.environ.get(name) for name in names if name.startswith(EARLY)
    )


def start_program(
    program: Path, words: list[str], environment: Mapping[str, str], out: Path, err: Path
) -> Running:
    """The command line; what it prints is appended to files. It reads nothing."""
    return Running(_program, str(program), words, dict(environment), str(out), str(err))


def start_server(
    data: Path, listen: str, log: Path, environment: Mapping[str, str], *, test_mode: bool
) -> Running:
    """The server alone, without the command line."""
    return Running(_server, str(data), listen, str(log), dict(environment), test_mode)


def _program(
    program: str, words: list[str], environment: dict[str, str], out: str, err: str
) -> None:
    _become([program, *words], environment, out, err)
    from holdfast.cli.main import main

    _as_a_program(main)


def _server(data: str, listen: str, log: str, environment: dict[str, str], test_mode: bool) -> None:
    _become(["holdfast"], environment, log, log)
    from holdfast.server import run_server

    _as_a_program(lambda: run_server(Path(data), listen, test_mode=test_mode))


def _as_a_program(work: Callable[[], None]) -> None:
    """A forked child ends without what an interpreter does at its end, so it is done here."""
    try:
        work()
    finally:
        atexit._run_exitfuncs()


def _become(argv: list[str], environment: dict[str, str], out: str, err: str) -> None:
    _end_with_the_tests()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False))  # noqa: SIM115 - until it ends
    sys.stdout, sys.stderr = _printing(1), _printing(2)
    sys.argv = argv


def _end_with_the_tests() -> None:
    """Tests that are killed leave nothing behind: their end ends the forking process, unless its
    children keep it, and that ends them."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    kept = forkserver._forkserver._forkserver_alive_fd  # type: ignore[attr-defined]
    if kept is not None:
        os.close(kept)


def _printing(number: int) -> io.TextIOWrapper:
    """As an interpreter opens them; the way of errors differs between the two."""
    errors = "backslashreplace" if number == 2 else sys.stdout.errors
    raw = open(number, "wb", closefd=False)  # noqa: SIM115 - until it ends
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=number == 2)
