"""The Azure command line, unmodified, in a profile of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from holdfast.testing.azure_sdk import address, admin
from holdfast.testing.warm_az import WarmAz
from holdfast.testing.world import Answer, World, free_port

SECONDS = 240


@dataclass
class Az:
    """A user's shell: a profile of its own, our CA, and no way to the Internet. ``sent``: the
    requests of each command, as the server's ``log`` has them. ``warm``: what runs the commands
    once it is warmed up; without it each is a process from its first import on."""

    program: Path
    environment: dict[str, str]
    typed: list[str] = field(default_factory=list)
    log: Path | None = None
    warm: WarmAz | None = None
    sent: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    def run(self, *words: str | Path, code: int = 0) -> Answer:
        """One command, which must end with ``code``."""
        self.typed.append(" ".join(map(str, words)))
        before = self.log.stat().st_size if self.log else 0
        done = self._done([str(word) for word in words])
        if self.log:
            self.sent.setdefault(command_of(words), set()).update(_requests(self.log, before))
        assert done.returncode == code, f"az {self.typed[-1]}: {done.returncode}\n{done.stderr}"
        return Answer(done.returncode, done.stdout, done.stderr)

    def _done(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        if self.warm is not None:
            return self.warm.run(words, SECONDS)
        return subprocess.run(
            [str(self.program), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def warm_up(self) -> None:
        """Run the commands that follow with what azure-cli imports already loaded. Ended by
        ``cool_down``."""
        self.warm = WarmAz(self.program.with_name("python"), self.environment)

    def cool_down(self) -> None:
        if self.warm is not None:
            self.warm.end()
            self.warm = None

    @contextmanager
    def start(self, *words: str | Path) -> Iterator[Running]:
        """A command that goes on while something else is done."""
        self.typed.append(" ".join(map(str, words)))
        running = Running(
            subprocess.Popen(
                [str(self.program), *map(str, words)],
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        try:
            yield running
        finally:
            running.process.kill()
            running.process.wait()

    def json(self, *words: str | Path) -> Any:
        """What a command prints with ``-o json``; None when it prints nothing."""
        out = self.run(*words, "-o", "json").out
        return json.loads(out) if out.strip() else None

    def table(self, *words: str | Path) -> list[str]:
        """The lines below the header of ``-o table``; [] when it prints no table."""
        return self.run(*words, "-o", "table").out.splitlines()[2:]


def command_of(words: Sequence[str | Path]) -> str:
    """The command without its options."""
    return " ".join(takewhile(lambda word: not word.startswith("-"), map(str, words)))


def _requests(log: Path, since: int) -> Iterator[tuple[str, str]]:
    """Method and path of what clients asked after byte ``since`` of a server's log."""
    with log.open("rb") as opened:
        opened.seek(since)
        lines = opened.read().splitlines()
    for line in lines:
        found = json.loads(line) if b'"request"' in line and line.startswith(b"{") else {}
        path = str(found.get("path", ""))
        if path.lower().startswith("/subscriptions/"):
            yield str(found["method"]), path


@dataclass
class Running:
    """A command under way, of which what it tells is read."""

    process: subprocess.Popen[str]
    told: str = ""

    def read_until(self, pattern: str) -> str:
        """The first group of ``pattern``, once it was told."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told += line
            if found := re.search(pattern, self.told):
                return found[1]
        raise AssertionError(self.told)

    def ended(self) -> int:
        """Its exit code."""
        self.process.communicate(timeout=SECONDS)
        return self.process.returncode


def another_person(az: Az, folder: Path) -> Az:
    """A profile of their own on the same machine, at the same installation."""
    made = Az(az.program, {**az.environment, "AZURE_CONFIG_DIR": str(folder)}, az.typed)
    shutil.copytree(az.environment["AZURE_CONFIG_DIR"], folder, ignore=_logins)
    return made


def _logins(_folder: str, names: list[str]) -> list[str]:
    """Everything but which cloud it is."""
    return [name for name in names if name not in ("clouds.config", "config")]


def log_in(program: Path, world: World) -> Az:
    """Register the installation as a cloud and log in, as the how-to says."""
    environment = {
        **os.environ,
        "AZURE_CONFIG_DIR": str(world.folder / "azure"),
        "REQUESTS_CA_BUNDLE": str(world.server_data / "ca.pem"),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "AZURE_CORE_NO_COLOR": "yes",
        "HTTPS_PROXY": f"http://127.0.0.1:{free_port()}",
        "NO_PROXY": "127.0.0.1",
    }
    log = world.server_data.with_name(f"{world.server_data.name}.log")
    az, login = Az(program, environment, log=log), admin(world)
    az.run("cloud", "register", "-n", "holdfast", "--endpoint-resource-manager", address(world))
    az.run("cloud", "set", "-n", "holdfast")
    words = ["login", "--service-principal", "-u", login["client_id"]]
    az.run(*words, "-p", login["client_secret"], "--tenant", login["tenant_id"])
    return az
