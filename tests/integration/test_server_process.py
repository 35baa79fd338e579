"""The server process: restarts, clean ends, refusals, and kills in the middle of something."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from holdfast.testing.live_server import START, LiveServer, live_server
from holdfast.testing.scripted_agent import ScriptedAgent
from holdfast.testing.wait import eventually
from holdfast.testing.world import free_port

QUICK = {"HOLDFAST_RESERVE_BYTES": "0"}


def start_refused(
    data: Path, *more: str, listen: str = "", environment: dict[str, str] | None = None
) -> str:
    """What a server that must not start says."""
    words = [sys.executable, "-c", START, str(data), listen or f"127.0.0.1:{free_port()}", *more]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_a_restart_keeps_everything_and_ends_with_zero(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "server", QUICK)
    server.start()
    vault = server.make_vault()
    admin, ca = server.admin, server.ca.read_bytes()
    token = server.token()
    assert server.stop() == 0
    server.start()
    assert (server.admin, server.ca.read_bytes()) == (admin, ca)
    assert server.get(vault, token=token).status_code == 200, "tokens outlive a restart"
    assert server.log().count("holdfast login --server") == 1
    assert server.stop(signal.SIGINT) == 0
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    assert all(line["at"].endswith("Z") for line in lines)
    requests = [line for line in lines if line["message"] == "request"]
    assert requests
    assert all(line["request_id"] and line["status"] for line in requests)
    assert admin["client_secret"] not in server.log()


def test_a_stop_finishes_requests_and_ends_long_polls(tmp_path: Path) -> None:
    """Logins (slow by intent) are answered; an agent's poll for 25 seconds ends at once."""
    with live_server(tmp_path / "server", QUICK) as server:
        agent = ScriptedAgent(server, server.make_vault(), "web1", datetime.now(UTC))
        token, results, polls = agent.token(), [], []

        def log_in() -> None:
            form = {"grant_type": "client_credentials", **server.admin}
            answer = server.client().post("/adfs/oauth2/token", data=form)
            results.append(answer.status_code)

        def poll() -> None:
            headers = {"Authorization": f"Bearer {token}"}
            body = {"waitSeconds": 25, "running": []}
            answer = server.client().post(f"{agent.address}/next", json=body, headers=headers)
            polls.append((answer.status_code, answer.json()["task"]))

        threads = [threading.Thread(target=work) for work in (poll, log_in, log_in, log_in)]
        for thread in threads:
            thread.start()
        eventually(lambda: results, "a first answer")
        process = server.process
        assert process is not None
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(timeout=30)
        assert process.wait(timeout=30) == 0
        assert time.monotonic() - asked < 15
        assert results == [200] * 3
        assert polls == [(200, None)]


def test_a_second_server_on_one_folder_is_refused(tmp_path: Path) -> None:
    with live_server(tmp_path / "server", QUICK) as server:
        said = start_refused(server.data)
        assert "DataFolderInUse" in said or "another server uses" in said
        said = start_refused(tmp_path / "other", listen=f"127.0.0.1:{server.port}")
        assert "is in use" in said
        assert server.raw("GET", "/healthz").status_code == 200


def test_a_kill_during_the_first_start_is_made_good_by_the_next(tmp_path: Path) -> None:
    """A real kill, as soon as the platform's key is there."""
    server = LiveServer(tmp_path / "server", QUICK)
    process = server.spawn()
    eventually((server.data / "keys" / "platform.key").exists, "the platform's key", every=0.001)
    process.kill()
    server.stop()
    assert "listens on" not in server.log()
    server.start()
    assert server.log_in().status_code == 200
    assert server.stop() == 0


def test_a_vault_whose_making_was_cut_off_is_finished_by_the_next_start(tmp_path: Path) -> None:
    environment = {"HOLDFAST_RESERVE_BYTES": str(192 * 1024 * 1024)}
    server = LiveServer(tmp_path / "server", environment)
    server.start()
    server.ok("PUT", server.group("rg1"), {"location": "local"})
    body = {"location": "local"}
    address = f"{server.vault()}?api-version=1"
    token = server.token()

    def ask() -> None:
        client = server.client()
        headers = {"Authorization": f"Bearer {token}"}
        with suppress(httpx2.HTTPError):  # the server is killed under it
            client.put(address, json=body, headers=headers)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: any((server.data / "vaults").glob("*-*-*/*")), "the vault's first object")
    assert server.process is not None
    server.process.kill()
    thread.join(timeout=30)
    server.stop()
    server.start()
    eventually(
        lambda: server.get(server.vault()).json()["properties"]["provisioningState"] == "Succeeded",
        "the vault is whole",
    )
    assert len(server.ok("GET", f"{server.vault()}/backupPolicies")["value"]) == 3
    folders = [path for path in (server.data / "vaults").iterdir() if "-" in path.name]
    assert len(folders) == 1
    server.stop()


def test_a_client_has_the_address_it_calls_from(live: LiveServer) -> None:
    """No header says otherwise: any program of the machine could sign in as from elsewhere."""
    path = "/providers/Holdfast.Backup/clients/from-afar"
    headers = {"X-Forwarded-For": "203.0.113.9"}
    assert live.call("PUT", path, headers=headers).status_code == 201
    rows = live.get("/providers/Holdfast.Backup/audit").json()["value"]
    (row,) = [one["properties"] for one in rows if one["properties"]["resource"] == path]
    assert row["clientAddress"] == "127.0.0.1"
    live.ok("DELETE", path)
