"""A whole installation in a folder: real server, real agents, the real command line.

Acceptance and recovery tests drive it as a user would: by typing commands. Every process listens
on loopback only and is ended by its own process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import WeakSet

from holdfast.testing.warm import Program, is_early, start_program

GROUP, VAULT, HOST, ITEM = "rg1", "v1", "host1", "docs"
READY_SECONDS = 60.0
QUICK = {"HOLDFAST_TICK_SECONDS": "0.2", "HOLDFAST_SCRUB_DAYS": "0"}
NO_DAY = {  # tests ask in a minute for what people ask for in weeks; what they hand in goes first
    "HOLDFAST_MAX_POLICY_CHANGES_A_DAY": "0",
    "HOLDFAST_MAX_VM_BACKUPS_A_DAY": "0",
    "HOLDFAST_MAX_VM_RESTORES_A_DAY": "0",
}
Word = str | Path
_made: WeakSet[World] = WeakSet()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def _text(path: Path) -> str:
    return path.read_text(errors="surrogateescape")


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def logs_since(began: float) -> Iterator[tuple[str, str]]:
    """The name and the last lines of every log a program of an installation wrote to after
    ``began`` (seconds since the epoch), for the report of a test that failed."""
    for world in list(_made):
        for path in sorted(world.folder.glob("*.log")):
            if path.stat().st_mtime >= began:
                yield str(path), world.log_tail(path.stem)


class World:
    """One installation below ``folder``; ``environment`` is added to every process. ``cold``: its
    programs load their modules themselves, and have the memory of nothing else."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        test_mode: bool = False,
        cold: bool = False,
    ) -> None:
        _made.add(self)
        self.folder = folder
        self.port = free_port()
        self.test_mode, self.cold = test_mode, cold
        self.program = Path(sys.executable).with_name("holdfast")
        self.server_data = folder / "server"
        self.clock_file = folder / "clock"
        self.server: Program | None = None
        self.agents: dict[str, Program] = {}
        self.environment = {
            **os.environ,
            "HOLDFAST_CONFIG_DIR": str(folder / "profile"),
            "HOLDFAST_GROUP": GROUP,
            "HOLDFAST_VAULT": VAULT,
            "HOLDFAST_PASSPHRASE": "a passphrase for tests",
            **QUICK,
            **NO_DAY,
            **(environment or {}),
        }
        if test_mode:
            self.environment["HOLDFAST_TEST_CLOCK"] = str(self.clock_file)

    def set_clock(self, now: datetime) -> None:
        """Move the clock of server and agents (test mode), atomically."""
        staged = self.clock_file.with_suffix(".new")
        staged.write_text(now.isoformat())
        staged.replace(self.clock_file)

    def cli(self, *words: Word, timeout: float = 240.0) -> Answer:
        """A command; subprocess.TimeoutExpired when it takes longer (seconds)."""
        with TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            running = self._start([str(word) for word in words], self.environment, out, err)
            try:
                code = running.wait(timeout)
            except subprocess.TimeoutExpired:
                running.kill()
                raise
            return Answer(code, *(_text(path) for path in (out, err)))

    def ok(self, *words: Word, timeout: float = 240.0) -> Answer:
        """A command that must succeed (warnings allowed)."""
        answer = self.cli(*words, timeout=timeout)
        if answer.code not in (0, 3):
            logs = "\n".join(self.log_tail(name) for name in ("server", *self.agents))
            raise AssertionError(f"{words} -> {answer.code}\n{answer.out}\n{answer.err}\n{logs}")
        return answer

    def ask(self, *words: Word) -> Any:
        """The JSON body a command prints."""
        return self.ok(*words, "-o", "json").json

    def start_server(
        self, environment: Mapping[str, str] | None = None, more: Sequence[str] = ()
    ) -> None:
        words = ["server", "start", "--data", str(self.server_data)]
        words += ["--listen", f"127.0.0.1:{self.port}", *more]
        if self.test_mode:
            words.append("--test-mode")
        self.server = self._spawn("server", words, environment)
        self._wait_until_listening()

    def start_agent(self, host: str = HOST, environment: Mapping[str, str] | None = None) -> None:
        words = ["agent", "start", "--data", str(self.agent_data(host))]
        if self.test_mode:
            words.append("--test-mode")
        self.agents[host] = self._spawn(host, words, environment)

    def agent_data(self, host: str = HOST) -> Path:
        return self.folder / f"agent-{host}"

    def login(self) -> None:
        self.ok(
            *("login", "--server", f"https://127.0.0.1:{self.port}"),
            *("--ca", self.server_data / "ca.pem"),
            *("--credentials", self.server_data / "admin.json"),
        )

    def enroll(self, host: str = HOST, *more: str) -> Answer:
        credentials = self.folder / f"{host}-credentials.json"
        self.ok("vault", "credentials", VAULT, "-g", GROUP, "-o", credentials)
        words: list[Word] = ["agent", "enroll", "--credentials", credentials]
        return self.cli(*words, "--data", self.agent_data(host), "--name", host, *more)

    def set_up(self, *includes: Path, policy: str = "DefaultPolicy") -> None:
        """Server, login, vault, one enrolled running agent, one protected item."""
        self.start_server()
        self.login()
        self.ok("vault", "create", VAULT, "-g", GROUP)
        enrolled = self.enroll()
        assert enrolled.code == 0, enrolled
        self.start_agent()
        self.protect(*includes, policy=policy)

    def protect(self, *includes: Path, item: str = ITEM, policy: str = "DefaultPolicy") -> Answer:
        words: list[Word] = ["item", "protect", item, "--container", HOST]
        for include in includes:
            words += ["--include", include]
        return self.ok(*words, "--policy", policy)

    def back_up(self, *more: str, item: str = ITEM) -> Answer:
        return self.ok("backup", "now", "--item", item, "--container", HOST, *more, "--wait")

    def points(self, item: str = ITEM) -> list[dict[str, Any]]:
        """Recovery points, newest first."""
        listed = self.ask("recovery-point", "list", "--item", item, "--container", HOST)
        assert isinstance(listed, list)
        return listed

    def jobs(self) -> list[dict[str, Any]]:
        listed = self.ask("job", "list")
        assert isinstance(listed, list)
        return listed

    def backed_up_on(self, day: date) -> bool:
        """Whether a backup that began on a day (UTC) has ended well. Its point is there a moment
        sooner; the next run, were it due in this moment, would be skipped: the item is busy."""
        found = [job["properties"] for job in self.jobs()]
        return any(
            job["operation"] == "Backup"
            and job["status"] in ("Completed", "CompletedWithWarnings")
            and job["startTime"].startswith(day.isoformat())
            for job in found
        )

    def restore(self, target: Path, *more: str, point: str = "latest", item: str = ITEM) -> Answer:
        words: list[Word] = ["restore", "--item", item, "--container", HOST]
        return self.ok(*words, "--recovery-point", point, "--to", target, *more, "--wait")

    def vault_folder(self) -> Path:
        """The first vault of region `local`."""
        made = (self.server_data / "vaults").glob("*/descriptor")
        return min(made, key=lambda path: path.stat().st_mtime_ns).parent

    def kill_server(self) -> None:
        self._end(self.server, signal.SIGKILL)
        self.server = None

    def stop_server(self) -> int:
        assert self.server is not None
        code = self._end(self.server, signal.SIGTERM)
        self.server = None
        return code

    def kill_agent(self, host: str = HOST) -> None:
        self._end(self.agents.pop(host), signal.SIGKILL)

    def stop_agent(self, host: str = HOST) -> int:
        return self._end(self.agents.pop(host), signal.SIGTERM)

    def close(self) -> None:
        """End what runs. Nothing of the server is needed any more, so it is not asked to stop."""
        for host in list(self.agents):
            self._end(self.agents.pop(host), signal.SIGTERM)
        self.kill_server()

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def log_tail(self, name: str, lines: int = 30) -> str:
        kept = [line[-2000:] for line in self.log(name).splitlines() if '"request",' not in line]
        return f"--- {name}.log\n" + "\n".join(kept[-lines:])

    def _spawn(self, name: str, words: list[str], environment: Mapping[str, str] | None) -> Program:
        log = self.folder / f"{name}.log"
        return self._start(words, {**self.environment, **(environment or {})}, log, log)

    def _start(
        self, words: list[str], environment: Mapping[str, str], out: Path, err: Path
    ) -> Program:
        """What it prints is appended to files; it reads nothing."""
        if not (self.cold or is_early(environment)):
            return start_program(self.program, words, environment, out, err)
        with out.open("ab") as printed, err.open("ab") as complained:
            return subprocess.Popen(
                [str(self.program), *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=complained,
            )

    def _wait_until_listening(self) -> None:
        assert self.server is not None
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            if self.server.poll() is not None:
                raise AssertionError(f"the server ended\n{self.log_tail('server')}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"the server does not listen\n{self.log_tail('server')}")

    @staticmethod
    def _end(process: Program | None, how: signal.Signals) -> int:
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
