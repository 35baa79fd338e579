"""A prepared `az`: a process of azure-cli's own Python that has its modules loaded already and runs
each command in a child of its own. Three of the four seconds a command takes are imports.

What runs is azure-cli's own main module, unmodified. This file is also a program of that Python
(nothing of this package is there): a line of JSON in for each command (``words``, ``folder``: where
it works, ``out`` and ``err``: files for what it prints, ``seconds``: how long it may take), a line
with its exit code out, null when it took too long.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

FIRST = ("backup", "vault", "list")  # loads what most of the others need


class WarmAz:
    """Runs commands of one profile. ``end`` it."""

    def __init__(self, python: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [str(python), __file__],
            env={**environment, "AZ_INSTALLER": "PIP"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, words: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """One command. It is killed, and subprocess.TimeoutExpired raised, after ``seconds``."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            files = {"folder": str(Path.cwd()), "out": str(out), "err": str(err)}
            asked = json.dumps({"words": list(words), "seconds": seconds, **files})
            self._process.stdin.write(asked + "\n")
            self._process.stdin.flush()
            code = json.loads(self._process.stdout.readline())
            if code is None:
                raise subprocess.TimeoutExpired(list(words), seconds, out.read_bytes())
            return subprocess.CompletedProcess(list(words), code, out.read_text(), err.read_text())

    def end(self) -> None:
        """Idempotent."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _azure(words: Sequence[str]) -> int:
    """What `python -m azure.cli` does; its exit code."""
    sys.argv = ["az", *words]
    try:
        runpy.run_module("azure.cli", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _child(words: Sequence[str], folder: str, out: str, err: str) -> None:
    """The command as a process of its own; does not return."""
    code = 1
    try:
        os.chdir(folder)
        for name, number in ((os.devnull, 0), (out, 1), (err, 2)):
            opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        code = _azure(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    """The child's exit code; None when it took longer and was killed."""
    descriptor = os.pidfd_open(child)  # readable when it has ended
    ready, _, _ = select.select([descriptor], [], [], seconds)
    os.close(descriptor)
    if not ready:
        os.kill(child, 9)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if ready else None


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    _azure(FIRST)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(asked["words"], asked["folder"], asked["out"], asked["err"])
        answers.write(json.dumps(_wait(child, asked["seconds"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
