"""The agent API of a real server over TLS: what is refused, and that nothing is left behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast.adapters.clock import SystemClock
from holdfast.identity.tokens import sign_assertion
from holdfast.testing.wait import eventually
from holdfast.testing.world import free_port
from holdfast.vaultstore.grant import SessionGrant, decode_grant
from holdfast.vaultstore.ids import ChunkKind, chunk_name
from holdfast.vaultstore.pack import PackBuilder, PackClass

VERSION = {"api-version": "2026-11-01"}
PROGRAM = """
import pathlib, sys
from holdfast.jobs.bell import Bell
from holdfast.server import run_server

real = Bell.wait

def wait(*given):
    print("an agent waits for news", flush=True)
    return real(*given)

Bell.wait = wait
run_server(pathlib.Path(sys.argv[1]), sys.argv[2])
"""


class Installation:
    """A server process and the administrator's connection to it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "server"
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self.data), self.address],
                env={**os.environ, "HOLDFAST_MAX_UPLOADS": "1", "HOLDFAST_TICK_SECONDS": "0.2"},
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, "the server answers", seconds=60)
        self.http = self.connect()
        admin = json.loads((self.data / "admin.json").read_text())
        form = {
            "grant_type": "client_credentials",
            "client_id": admin["client_id"],
            "client_secret": admin["client_secret"],
        }
        self.log_in(self.http, form)
        listed = self.http.get("/subscriptions", params=VERSION).json()["value"]
        group = f"/subscriptions/{listed[0]['subscriptionId']}/resourceGroups/rg1"
        self.vault = f"{group}/providers/Microsoft.RecoveryServices/vaults/v1"
        self.ok("PUT", group, {"location": "local"})
        self.ok("PUT", self.vault, {"location": "local", "properties": {}})

    def connect(self) -> httpx2.Client:
        context = ssl.create_default_context(cafile=self.data / "ca.pem")
        return httpx2.Client(
            base_url=f"https://{self.address}", verify=context, trust_env=False, timeout=60
        )

    def _answers(self) -> bool:
        if not (self.data / "ca.pem").exists():
            return False
        try:
            with self.connect() as http:
                return http.get("/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    @staticmethod
    def log_in(http: httpx2.Client, form: dict[str, str]) -> None:
        answer = http.post("/adfs/oauth2/token", data=form)
        assert answer.status_code == 200, answer.text
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def ok(self, method: str, path: str, body: Any) -> Any:
        answer = self.http.request(method, path, params=VERSION, json=body)
        assert answer.status_code < 300, answer.text
        return answer

    def credentials(self) -> str:
        path = f"{self.vault}/providers/Holdfast.Backup/createVaultCredentials"
        found = self.ok("POST", path, {"properties": {}}).json()
        return str(found["properties"]["credentials"]["token"])

    def agent(self, host: str) -> Caller:
        return Caller(self, host)

    def protect(self, host: str) -> str:
        container = f"{self.vault}/backupFabrics/Azure/protectionContainers/Linux;{host}"
        item = f"{container}/protectedItems/FileFolder;docs"
        properties = {
            "protectedItemType": "MabFileFolderProtectedItem",
            "backupManagementType": "MAB",
            "policyId": f"{self.vault}/backupPolicies/DefaultPolicy",
            "friendlyName": "docs",
            "holdfast": {"includePaths": ["/data"]},
        }
        self.ok("PUT", item, {"properties": properties})
        return item

    def back_up(self, item: str) -> None:
        body = {"properties": {"objectType": "FilesBackupRequest"}}
        self.ok("POST", f"{item}/backup", body)

    def objects(self, below: str) -> list[Path]:
        return [path for path in self.data.rglob(f"vaults/*/{below}/**/*") if path.is_file()]

    def temporary(self) -> list[Path]:
        return [path for path in self.data.rglob("vaults/tmp/*") if path.is_file()]

    def stop(self) -> int:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)


class Caller:
    """An enrolled agent that calls by hand."""

    def __init__(self, at: Installation, host: str) -> None:
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.ca = at.data / "ca.pem"
        self.http = at.connect()
        body = {
            "vaultCredentials": at.credentials(),
            "host": host,
            "platform": "linux",
            "publicKeyPem": public.decode(),
        }
        answer = self.http.post("/providers/Holdfast.Backup/agents/enroll", json=body)
        assert answer.status_code == 200, answer.text
        self.id = answer.json()["agentId"]
        client_id = answer.json()["clientId"]
        assertion = sign_assertion(key, client_id, SystemClock().now(), os.urandom(16).hex())
        form = {"grant_type": "client_credentials", "client_assertion": assertion}
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        Installation.log_in(self.http, {**form, "client_assertion_type": kind})

    def call(self, path: str, content: bytes | None = None, **more: Any) -> httpx2.Response:
        method = more.pop("method", "POST")
        address = f"/providers/Holdfast.Backup/agents/{more.pop('as_agent', self.id)}{path}"
        return self.http.request(method, address, content=content, **more)

    def announce(self, path: str, size: int) -> int:
        """The status of a PUT whose body is announced and never sent."""
        context = ssl.create_default_context(cafile=self.ca)
        address = str(self.http.base_url.host), self.http.base_url.port
        connection = http.client.HTTPSConnection(*address, context=context, timeout=30)
        try:
            connection.putrequest("PUT", f"/providers/Holdfast.Backup/agents/{self.id}{path}")
            connection.putheader("Authorization", self.http.headers["Authorization"])
            connection.putheader("Content-Length", str(size))
            connection.endheaders()
            return connection.getresponse().status
        finally:
            connection.close()

    def next(self, wait: float = 20.0) -> dict[str, Any]:
        answer = self.call("/next", json.dumps({"waitSeconds": wait, "running": []}).encode())
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def session(self, task: dict[str, Any]) -> SessionGrant:
        body = {"taskId": task["taskId"], "fence": task["fence"]}
        answer = self.call("/sessions", json.dumps(body).encode())
        assert answer.status_code == 200, answer.text
        return decode_grant(answer.content)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("installation"))
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def caller(at: Installation) -> Caller:
    return at.agent("web1")


@pytest.fixture(scope="module")
def task(at: Installation, caller: Caller) -> dict[str, Any]:
    """A leased backup task; the job waits for it during the whole module."""
    at.back_up(at.protect("web1"))
    found = caller.next()["task"]
    assert found["kind"] == "files-backup"
    assert found["payload"]["includePaths"] == ["/data"]
    return dict(found)


@pytest.fixture(scope="module")
def grant(caller: Caller, task: dict[str, Any]) -> SessionGrant:
    return caller.session(task)


def refused(answer: httpx2.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert "Traceback" not in answer.text


def pack_of(grant: SessionGrant, size: int = 200_000) -> tuple[bytes, bytes]:
    builder = PackBuilder(grant, PackClass.FILES)
    builder.begin(os.urandom(16))
    plain = os.urandom(size)
    name = chunk_name(grant.id_keys, ChunkKind.DATA, plain)
    slot = builder.reserve(ChunkKind.DATA, name, size, size, 0)
    assert slot is not None
    builder.seal(slot, plain)
    pack = builder.finish()
    return pack.pack_id, bytes(pack.data)


def test_a_long_poll_is_woken_by_work(at: Installation) -> None:
    other = at.agent("web2")
    item = at.protect("web2")
    found: list[Any] = []
    started = time.monotonic()
    waiting = threading.Thread(target=lambda: found.append(other.next(25)))
    waiting.start()
    at.back_up(item)
    waiting.join(timeout=30)
    assert found[0]["task"]["kind"] == "files-backup"
    assert time.monotonic() - started < 10


def test_a_task_is_not_given_to_a_caller_that_has_gone(at: Installation) -> None:
    """A machine went off in its long poll: its job waits for it and is not "being worked on"."""
    gone = at.agent("web9")
    item = at.protect("web9")
    with pytest.raises(httpx2.ReadTimeout):
        gone.call("/next", b'{"waitSeconds": 25, "running": []}', timeout=1.0)
    gone.http.close()
    at.back_up(item)

    def detail() -> str:
        jobs = at.http.get(f"{at.vault}/backupJobs", params=VERSION).json()["value"]
        mine = [job for job in jobs if job["properties"]["entityFriendlyName"] == "docs"]
        shown = at.http.get(mine[0]["id"], params=VERSION).json()["properties"]
        return str(shown["holdfast"]["detail"])

    eventually(lambda: detail() == "waiting for the agent on web9", "the job waits")


def test_a_pack_is_received_and_sent_again_harmlessly(
    at: Installation, caller: Caller, grant: SessionGrant
) -> None:
    pack_id, data = pack_of(grant)
    path = f"/sessions/{grant.session_id.hex()}/packs/{pack_id.hex()}"
    first = caller.call(path, data, method="PUT")
    assert first.status_code == 200, first.text
    again = caller.call(path, data, method="PUT")
    assert again.content == first.content
    refused(caller.call(path, pack_of(grant)[1], method="PUT"), 409, "PackForeign")
    assert [path.name for path in at.objects("packs")].count(pack_id.hex()) == 1


def test_nothing_is_kept_of_what_is_no_pack(
    at: Installation, caller: Caller, grant: SessionGrant
) -> None:
    before = at.objects("packs")
    pack_id, data = pack_of(grant)
    base = f"/sessions/{grant.session_id.hex()}/packs"
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    answer = caller.call(f"{base}/{pack_id.hex()}", bytes(damaged), method="PUT")
    assert answer.status_code in (409, 422), answer.text
    answer = caller.call(f"{base}/{pack_id.hex()}", data[: len(data) // 2], method="PUT")
    assert answer.status_code in (409, 422), answer.text
    refused(caller.call(f"{base}/xyz", data, method="PUT"), 400, "InvalidId")
    answer = caller.call(f"{base}/{pack_id.hex()}", iter([data]), method="PUT")  # type: ignore[arg-type]
    refused(answer, 400, "LengthRequired")
    assert caller.announce(f"{base}/{pack_id.hex()}", 1 << 40) == 413
    assert at.objects("packs") == before


def test_an_upload_cut_off_leaves_nothing(
    at: Installation, caller: Caller, grant: SessionGrant
) -> None:
    pack_id, data = pack_of(grant)
    path = f"/sessions/{grant.session_id.hex()}/packs/{pack_id.hex()}"

    def half() -> Iterator[bytes]:
        yield data[:50_000]
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        caller.call(path, half(), method="PUT", headers={"Content-Length": str(len(data))})  # type: ignore[arg-type]
    eventually(lambda: not at.temporary(), "the temporary file is gone", seconds=20)
    assert pack_id.hex() not in [path.name for path in at.objects("packs")]
    eventually(
        lambda: caller.call(path, data, method="PUT").status_code == 200,
        "its place is free again",
        seconds=20,
    )


def test_too_many_uploads_are_told_to_come_later(caller: Caller, grant: SessionGrant) -> None:
    pack_id, data = pack_of(grant)
    path = f"/sessions/{grant.session_id.hex()}/packs/{pack_id.hex()}"
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield data[:70_000]
        begun.set()
        assert go_on.wait(30)
        yield data[70_000:]

    answers: list[httpx2.Response] = []
    headers = {"Content-Length": str(len(data))}
    slow = threading.Thread(
        target=lambda: answers.append(caller.call(path, slowly(), method="PUT", headers=headers))  # type: ignore[arg-type]
    )
    slow.start()
    assert begun.wait(20)
    other_id, other = pack_of(grant)
    other_path = f"/sessions/{grant.session_id.hex()}/packs/{other_id.hex()}"

    def busy() -> bool:
        answer = caller.call(other_path, other, method="PUT")
        return answer.status_code == 429 and answer.headers["Retry-After"] == "1"

    eventually(busy, "the second upload is told to come later", seconds=20)
    go_on.set()
    slow.join(timeout=30)
    assert answers[0].status_code == 200, answers[0].text
    assert caller.call(other_path, other, method="PUT").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/next", b"{"),
        ("/next", b'{"waitSeconds": "soon"}'),
        ("/next", b"\xff\xfe"),
        ("/tasks/x/progress", b'{"phase": "x"}'),
        ("/tasks/x/complete", b'{"fence": 1, "outcome": "perhaps"}'),
        ("/sessions", b"[]"),
        ("/sessions/S/commit", b"\xc1"),
        ("/sessions/S/commit", msgspec.msgpack.encode({"receipts": "x", "rootId": b""})),
        ("/sessions/S/checkpoint", msgspec.msgpack.encode([1])),
        ("/sessions/S/lookup", b"x" * 47),
    ],
)
def test_malformed_bodies_are_named(
    caller: Caller, grant: SessionGrant, path: str, body: bytes
) -> None:
    refused(caller.call(path.replace("S", grant.session_id.hex(), 1), body), 400, "InvalidBody")


def test_bodies_have_limits(caller: Caller, grant: SessionGrant) -> None:
    path = f"/sessions/{grant.session_id.hex()}/locate"
    refused(caller.call(path, b"x" * (32 * 4097)), 413, "RequestTooLarge")
    refused(caller.call("/next", b" " * (9 << 20)), 413, "RequestTooLarge")


def test_only_the_holder_of_a_session_may_use_it(
    at: Installation, caller: Caller, grant: SessionGrant
) -> None:
    stranger = at.agent("web3")
    path = f"/sessions/{grant.session_id.hex()}"
    refused(stranger.call(f"{path}/lookup", bytes(48)), 404, "SessionUnknown")
    refused(stranger.call(f"{path}/close", b"{}"), 404, "SessionUnknown")
    answer = stranger.call(f"{path}/lookup", bytes(48), as_agent=caller.id)
    refused(answer, 403, "AuthorizationFailed")
    refused(at.http.post(f"/providers/Holdfast.Backup/agents/{caller.id}/next", json={}), 403,
            "AuthorizationFailed")  # fmt: skip
    bare = at.connect()
    answer = bare.post(f"/providers/Holdfast.Backup/agents/{caller.id}/next", json={})
    assert answer.status_code == 401
    assert stranger.http.get(at.vault, params=VERSION).status_code == 403


def test_an_agent_can_delete_nothing(caller: Caller, grant: SessionGrant) -> None:
    path = f"/sessions/{grant.session_id.hex()}"
    for address in ("", path, f"{path}/packs/{bytes(16).hex()}"):
        answer = caller.call(address, method="DELETE")
        assert answer.status_code in (400, 404, 405), answer.text


def test_a_foreign_chunk_is_not_located(caller: Caller, grant: SessionGrant) -> None:
    answer = caller.call(f"/sessions/{grant.session_id.hex()}/locate", bytes(32))
    assert answer.status_code in (403, 409), answer.text
    path = f"/sessions/{grant.session_id.hex()}/packs/{bytes(16).hex()}"
    answer = caller.call(path, method="GET", params={"frames": "0-3"})
    assert answer.status_code in (403, 409), answer.text
    refused(caller.call(path, method="GET", params={"frames": "a"}), 400, "InvalidFrames")


def test_a_second_hand_out_fences_the_first(
    caller: Caller, task: dict[str, Any], grant: SessionGrant
) -> None:
    """Last of the module: it ends what the others use."""
    again = caller.next()["task"]
    assert again["taskId"] == task["taskId"]
    assert again["fence"] == task["fence"] + 1
    body = json.dumps({"fence": task["fence"]}).encode()
    refused(caller.call(f"/tasks/{task['taskId']}/progress", body), 409, "TaskFenced")
    path = f"/sessions/{grant.session_id.hex()}/lookup"
    refused(caller.call(path, bytes(48)), 409, "TaskFenced")
    asked = {"waitSeconds": 5, "running": [{"taskId": task["taskId"], "fence": task["fence"]}]}
    assert caller.call("/next", json.dumps(asked).encode()).json()["cancel"] == [task["taskId"]]
    report = {"fence": again["fence"], "phase": "Scan", "doneBytes": 5, "findings": []}
    answer = caller.call(f"/tasks/{task['taskId']}/progress", json.dumps(report).encode())
    assert answer.json()["cancel"] is False


def test_a_stop_does_not_wait_for_long_polls(tmp_path: Path) -> None:
    alone = Installation(tmp_path)
    agent = alone.agent("web1")
    answers: list[Any] = []

    def poll() -> None:
        answers.append(agent.next(25))
        agent.http.close()

    polling = threading.Thread(target=poll)
    polling.start()
    eventually(lambda: "an agent waits for news" in alone.log.read_text(), "the long poll waits")
    started = time.monotonic()
    assert alone.stop() == 0
    polling.join(timeout=30)
    assert answers[0]["task"] is None
    assert time.monotonic() - started < 9
