"""A real server process on a free loopback port, and a client that speaks ARM to it.

It is started without the command line, so that tests of the API depend on the server alone. It is
ended by its own process id.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from holdfast.testing.warm import Program, is_early, start_server
from holdfast.testing.watching import tell_response
from holdfast.testing.world import NO_DAY, free_port

START = (
    "import sys, pathlib; from holdfast.server import run_server; "
    "run_server(pathlib.Path(sys.argv[1]), sys.argv[2], test_mode=len(sys.argv) > 3)"
)
READY_SECONDS = 60.0
VERSION = "2024-04-01"
RS = "Microsoft.RecoveryServices"


class LiveServer:
    """One server over the data folder ``data``; ``environment`` is added to its process."""

    def __init__(
        self, data: Path, environment: Mapping[str, str] | None = None, *, test_mode: bool = False
    ) -> None:
        self.data = data
        self.port = free_port()
        self.environment = {**os.environ, **NO_DAY, **(environment or {})}
        self.test_mode = test_mode
        self.process: Program | None = None
        self._token = ""
        self._clients: list[httpx2.Client] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.data / "ca.pem"

    @property
    def admin(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.data / "admin.json").read_text())
        return found

    @property
    def subscription(self) -> str:
        return f"/subscriptions/{self.admin['subscription_id']}"

    def group(self, name: str) -> str:
        return f"{self.subscription}/resourceGroups/{name}"

    @property
    def names(self) -> dict[str, str]:
        """What stands for the names in routes, so that they meet things that exist."""
        return {
            "sub": self.admin["subscription_id"],
            "group": "rg1",
            "vault": "v1",
            "fabric": "Azure",
        }

    def vault(self, name: str = "v1", group: str = "rg1") -> str:
        return f"{self.group(group)}/providers/{RS}/vaults/{name}"

    # life

    def start(self) -> None:
        """Start and wait until /healthz answers 200."""
        self.spawn()
        self._wait_until_ready()

    def spawn(self) -> Program:
        """Start without waiting; output goes to ``<data>.log``."""
        listen = f"127.0.0.1:{self.port}"
        if not is_early(self.environment):
            self.process = start_server(
                self.data, listen, self.log_path, self.environment, test_mode=self.test_mode
            )
            return self.process
        words = [sys.executable, "-c", START, str(self.data), listen]
        if self.test_mode:
            words.append("test")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self.process

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process and wait; its exit code."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        return code

    @property
    def log_path(self) -> Path:
        return self.data.with_name(self.data.name + ".log")

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _wait_until_ready(self) -> None:
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"the server ended at once:\n{self.log()}")
            try:
                if self.ca.exists() and self.get("/healthz", token="").status_code == 200:
                    return
            except (httpx2.HTTPError, ssl.SSLError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"the server did not become ready:\n{self.log()}")

    # calls

    def client(self) -> httpx2.Client:
        """A client that trusts this server's CA and nothing else."""
        context = ssl.create_default_context(cafile=str(self.ca))
        made = httpx2.Client(
            base_url=self.url,
            verify=context,
            timeout=60,
            trust_env=False,
            event_hooks={"response": [tell_response]},
        )
        self._clients.append(made)
        return made

    def log_in(self, client_id: str = "", secret: str = "") -> httpx2.Response:
        """The token endpoint's answer; the administrator's without arguments."""
        form = {
            "grant_type": "client_credentials",
            "client_id": client_id or self.admin["client_id"],
            "client_secret": secret or self.admin["client_secret"],
            "scope": f"{self.url}/.default",
        }
        return self.raw("POST", "/adfs/oauth2/token", data=form)

    def token(self) -> str:
        """An administrator's token, asked for once per start."""
        if not self._token:
            answer = self.log_in()
            assert answer.status_code == 200, answer.text
            self._token = answer.json()["access_token"]
        return self._token

    def raw(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """One request, nothing added."""
        if not self._clients:
            self.client()
        return self._clients[0].request(method, path, **options)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """One ARM request: with ``api-version`` and a token ("" sends none)."""
        params = {"api-version": VERSION, **(query or {})}
        sent = dict(headers or {})
        used = self.token() if token is None else token
        if used:
            sent["Authorization"] = f"Bearer {used}"
        answer = self.raw(method, path, params=params, headers=sent, json=body)
        if answer.status_code == 401 and token is None:  # a moved test clock made it expire
            self._token = ""
            sent["Authorization"] = f"Bearer {self.token()}"
            answer = self.raw(method, path, params=params, headers=sent, json=body)
        return answer

    def get(self, path: str, /, *, token: str | None = None, **query: str) -> httpx2.Response:
        return self.call("GET", path, token=token, query=query)

    def ok(self, method: str, path: str, body: Any = None, /, **query: str) -> Any:
        """A call that must succeed; its JSON, or None without a body."""
        answer = self.call(method, path, body, query=query)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def make_vault(self, name: str = "v1", group: str = "rg1") -> str:
        """A group and a vault in it; the vault's ARM id."""
        self.ok("PUT", self.group(group), {"location": "local"})
        self.ok("PUT", self.vault(name, group), {"location": "local", "properties": {}})
        return self.vault(name, group)

    def finish(self, answer: httpx2.Response, seconds: float = 60.0) -> dict[str, Any]:
        """Poll a 202's Azure-AsyncOperation until it ends; its last body."""
        assert answer.status_code in (200, 201, 202), answer.text
        url = answer.headers["Azure-AsyncOperation"]
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            body: dict[str, Any] = self.raw(
                "GET", url, headers={"Authorization": f"Bearer {self.token()}"}
            ).json()
            if body["status"] != "InProgress":
                return body
            time.sleep(0.05)
        raise AssertionError(f"the operation did not end: {body}")


@contextmanager
def live_server(
    data: Path, environment: Mapping[str, str] | None = None, *, test_mode: bool = False
) -> Iterator[LiveServer]:
    """A started server, killed at the end unless it was stopped."""
    server = LiveServer(data, environment, test_mode=test_mode)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGKILL)
