"""The data lane of a real server over TLS: what passes, what is refused, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from holdfast import alpn
from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.agent.client import VERSION, AgentClient, tls_context
from holdfast.agent.lane import Lane, LaneAnswer
from holdfast.agent.main import enroll
from holdfast.agent.state import AgentFolder
from holdfast.agent.transports import HttpSession
from holdfast.errors import AccessError, ConflictError
from holdfast.testing.live_server import LiveServer, live_server
from holdfast.testing.wait import eventually
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.ids import ChunkKind, chunk_name
from holdfast.vaultstore.pack import PackBuilder, PackClass

UPLOADS, READS = 1, 32
QUICK = {
    "HOLDFAST_RESERVE_BYTES": "0",
    "HOLDFAST_TICK_SECONDS": "0.1",
    "HOLDFAST_MAX_UPLOADS": str(UPLOADS),
}


class Machine:
    """An enrolled agent that is driven by hand, with an open backup session."""

    def __init__(self, server: LiveServer, folder: Path, host: str) -> None:
        self.server = server
        address = f"{server.vault()}/providers/Holdfast.Backup/createVaultCredentials"
        made = server.ok("POST", address, {"properties": {}})["properties"]["credentials"]
        file = folder / f"{host}.json"
        file.write_text(json.dumps(made))
        state = enroll(file, folder / host, name=host)
        stored, key = AgentFolder(folder / host).load()
        ca = folder / host / "ca.pem"
        self.id = state.agent_id
        self.context = tls_context(ca)
        self.context.set_alpn_protocols([alpn.DATA, alpn.HTTP])
        clock, rng = SystemClock(), SystemRandom()
        self.client = AgentClient(stored, key, ca, clock, rng, threading.Event())
        self.lane = Lane(server.url, tls_context(ca), {})
        self.session = self._session(host)
        self.grant: SessionGrant = self.session.grant

    def _session(self, host: str) -> HttpSession:
        vault = self.server.vault()
        item = (
            f"{vault}/backupFabrics/Azure/protectionContainers/Linux;{host}"
            "/protectedItems/FileFolder;docs"
        )
        properties = {
            "protectedItemType": "MabFileFolderProtectedItem",
            "backupManagementType": "MAB",
            "policyId": f"{vault}/backupPolicies/DefaultPolicy",
            "friendlyName": "docs",
            "holdfast": {"includePaths": ["/data"]},
        }
        self.server.ok("PUT", item, {"properties": properties})
        self.server.ok(
            "POST", f"{item}/backup", {"properties": {"objectType": "FilesBackupRequest"}}
        )
        task = self.client.json("/next", {"waitSeconds": 20, "running": []})["task"]
        return HttpSession(self.client, task["taskId"], task["fence"])

    def pack(self, size: int = 2_500_000) -> tuple[bytes, bytearray]:
        builder = PackBuilder(self.grant, PackClass.FILES)
        builder.begin(os.urandom(16))
        plain = os.urandom(size)
        name = chunk_name(self.grant.id_keys, ChunkKind.DATA, plain)
        slot = builder.reserve(ChunkKind.DATA, name, size, size, 0)
        assert slot is not None
        builder.seal(slot, plain)
        pack = builder.finish()
        return pack.pack_id, bytearray(pack.data)

    def path(self, pack_id: bytes, *, agent: str = "", session: str = "") -> str:
        base = f"/providers/Holdfast.Backup/agents/{agent or self.id}"
        base += f"/sessions/{session or self.grant.session_id.hex()}/packs/{pack_id.hex()}"
        return f"{base}?{urlencode(VERSION)}"

    def bearing(self) -> dict[str, str]:
        return self.client._bearing()

    def put(self, path: str, data: bytes | bytearray, **headers: str) -> LaneAnswer:
        return self.lane.ask("PUT", path, {**self.bearing(), **headers}, memoryview(data))

    def half(self, pack_id: bytes, data: bytes | bytearray) -> ssl.SSLSocket:
        """A connection on which the first half of a pack was sent."""
        sock = self.connect()
        words = {**self.bearing(), "Content-Length": len(data), "Expect": "100-continue"}
        lines = [f"PUT {self.path(pack_id)} HTTP/1.1", *(f"{a}: {b}" for a, b in words.items())]
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(data[: len(data) // 2])
        return sock

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.server.port), 30)
        return self.context.wrap_socket(plain, server_hostname="127.0.0.1")

    def stored(self, below: str = "packs") -> list[str]:
        found = self.server.data.rglob(f"vaults/*/{below}/**/*")
        return sorted(path.name for path in found if path.is_file())

    def temporary(self) -> list[Path]:
        return [path for path in self.server.data.rglob("vaults/+tmp/*") if path.is_file()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("lane") / "server", QUICK) as started:
        started.make_vault()
        yield started


@pytest.fixture(scope="module")
def machine(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(server, tmp_path_factory.mktemp("machines"), "web1")
    yield made
    made.client.close()
    made.lane.close()


def refused(answer: LaneAnswer, status: int, code: str) -> None:
    error = json.loads(answer.content)["error"]
    assert (answer.status_code, error["code"]) == (status, code), error
    assert error["message"]
    assert "x-ms-request-id" in answer.headers
    assert "Traceback" not in str(error)


def figure(server: LiveServer, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_pack_passes_and_passes_again(server: LiveServer, machine: Machine) -> None:
    pack_id, data = machine.pack()
    before = figure(server, 'holdfast_data_bytes_total{direction="in"}')
    receipt = machine.session.put_pack(pack_id, memoryview(data))
    assert machine.session.put_pack(pack_id, memoryview(data)) == receipt
    after = figure(server, 'holdfast_data_bytes_total{direction="in"}')
    assert after - before == 2 * len(data)
    assert machine.stored().count(pack_id.hex()) == 1
    stored = next(server.data.rglob(f"vaults/*/packs/**/{pack_id.hex()}"))
    assert stored.read_bytes() == data


def test_who_may_not_send_is_told_before_it_sends(machine: Machine, tmp_path: Path) -> None:
    pack_id, data = machine.pack()
    path = machine.path(pack_id)
    refused(machine.put(path, data, Authorization="Bearer x"), 401, "InvalidAuthenticationToken")
    refused(machine.put(path, data, Authorization=""), 401, "AuthenticationFailed")
    other = Machine(machine.server, tmp_path, "web2")
    foreign = other.grant.session_id.hex()
    refused(machine.put(machine.path(pack_id, session=foreign), data), 404, "SessionUnknown")
    refused(machine.put(machine.path(pack_id, agent=other.id), data), 403, "AuthorizationFailed")
    administrator = {"Authorization": f"Bearer {machine.server.token()}"}
    refused(machine.put(path, data, **administrator), 403, "AuthorizationFailed")
    refused(machine.put(path, other.pack()[1]), 409, "PackForeign")
    assert pack_id.hex() not in machine.stored()


def test_bad_calls_get_the_errors_of_the_api(machine: Machine) -> None:
    pack_id, data = machine.pack()
    ask = machine.lane.ask
    huge = {**machine.bearing(), "content-length": str(1 << 40)}
    refused(ask("PUT", machine.path(pack_id), huge, None), 413, "RequestTooLarge")
    endless = {**machine.bearing(), "transfer-encoding": "chunked"}
    refused(ask("PUT", machine.path(pack_id), endless, None), 400, "LengthRequired")
    refused(machine.put(machine.path(b"short"), data), 400, "InvalidId")
    refused(ask("GET", "/subscriptions", machine.bearing(), None), 404, "InvalidResourceType")
    delete = ask("DELETE", machine.path(pack_id), machine.bearing(), None)
    refused(delete, 405, "MethodNotAllowed")
    odd = f"{machine.path(pack_id)}&frames=9-3"
    refused(ask("GET", odd, machine.bearing(), None), 400, "InvalidFrames")
    long = {**machine.bearing(), "x-long": "x" * 70_000}
    refused(ask("GET", machine.path(pack_id), long, None), 400, "InvalidRequestContent")
    refused(ask("GET", "no path", {}, None), 400, "InvalidRequestContent")


def test_a_damaged_pack_is_refused_and_the_connection_serves_on(machine: Machine) -> None:
    pack_id, data = machine.pack()
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    refused(machine.put(machine.path(pack_id), damaged), 409, "PackHashMismatch")
    refused(machine.put(machine.path(os.urandom(16)), data), 409, "PackForeign")
    with pytest.raises(ConflictError, match="its hash does not match"):
        machine.session.put_pack(pack_id, memoryview(damaged))
    assert machine.put(machine.path(pack_id), data).status_code == 200
    assert machine.temporary() == []


def test_a_pack_cut_off_leaves_nothing_and_frees_its_place(machine: Machine) -> None:
    pack_id, data = machine.pack()
    with machine.half(pack_id, data) as sock:
        refused(machine.put(machine.path(pack_id), data), 429, "TooManyUploads")
        sock.shutdown(socket.SHUT_RDWR)
    eventually(lambda: not machine.temporary(), "the temporary file is gone")
    assert pack_id.hex() not in machine.stored()
    machine.session.put_pack(pack_id, memoryview(data))
    assert pack_id.hex() in machine.stored()


def test_an_agent_waits_for_its_turn(machine: Machine) -> None:
    """Another upload has the only place: the pack is sent once that has ended."""
    first, second = machine.pack(), machine.pack()
    sock = machine.half(*first)
    sent: list[bytes] = []
    sending = threading.Thread(
        target=lambda: sent.append(machine.session.put_pack(second[0], memoryview(second[1])))
    )
    sending.start()
    sock.sendall(first[1][len(first[1]) // 2 :])
    assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    sock.close()
    sending.join(timeout=30)
    assert len(sent) == 1
    assert {first[0].hex(), second[0].hex()} <= set(machine.stored())


def test_frames_of_others_are_not_read(machine: Machine) -> None:
    pack_id, data = machine.pack()
    machine.session.put_pack(pack_id, memoryview(data))
    with pytest.raises((AccessError, ConflictError)) as caught:
        machine.session.read_frames(pack_id, [0])
    assert caught.value.code in ("ChunkNotInRecoveryPoint", "SessionKindWrong")


def test_without_room_in_the_lane_the_api_serves_packs(
    server: LiveServer, machine: Machine
) -> None:
    machine.lane.close()
    eventually(lambda: figure(server, "holdfast_data_connections") <= 1, "old ones are gone")
    crowd = [machine.connect() for _ in range(UPLOADS + READS)]
    try:
        one_more = machine.connect()
        assert crowd[0].selected_alpn_protocol() == alpn.DATA
        assert one_more.selected_alpn_protocol() == alpn.HTTP
        one_more.close()
        pack_id, data = machine.pack()
        assert machine.put(machine.path(pack_id), data).status_code == 200
        assert pack_id.hex() in machine.stored()
    finally:
        for sock in crowd:
            sock.close()
    eventually(lambda: machine.connect().selected_alpn_protocol() == alpn.DATA, "there is room")


def test_hellos_may_come_byte_by_byte(server: LiveServer, machine: Machine) -> None:
    for names in ([alpn.DATA], [alpn.HTTP]):
        context = ssl.create_default_context(cafile=str(server.ca))
        context.set_alpn_protocols(names)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while client.version() is None or not client.selected_alpn_protocol():
                try:
                    client.do_handshake()
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        sock.sendall(bytes([byte]))
                    incoming.write(sock.recv(65536))
        assert client.selected_alpn_protocol() == names[0]


def test_strangers_that_speak_no_tls_harm_nobody(server: LiveServer, machine: Machine) -> None:
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01\x00\x02\x01\x00"):
        with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
            sock.sendall(said)
    assert server.get("/healthz").status_code == 200
    pack_id, data = machine.pack()
    machine.session.put_pack(pack_id, memoryview(data))
    assert "Traceback" not in server.log()


def test_a_stop_lets_a_pack_under_way_arrive_and_a_restart_is_noticed(tmp_path: Path) -> None:
    with live_server(tmp_path / "server", QUICK) as server:
        server.make_vault()
        machine = Machine(server, tmp_path, "web1")
        kept = machine.pack()
        receipt = machine.session.put_pack(kept[0], memoryview(kept[1]))  # and an idle connection
        pack_id, data = machine.pack()
        sock = machine.half(pack_id, data)
        process: subprocess.Popen[Any] | None = server.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        eventually(lambda: not _listens(server), "the server takes nobody in")
        sock.sendall(data[len(data) // 2 :])
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        assert server.stop() == 0
        assert pack_id.hex() in machine.stored()
        server.start()
        assert machine.session.put_pack(kept[0], memoryview(kept[1])) == receipt
        cut = machine.pack()
        sock = machine.half(*cut)
        server.stop(signal.SIGKILL)
        server.start()
        machine.session.put_pack(cut[0], memoryview(cut[1]))
        assert machine.stored().count(cut[0].hex()) == 1
        assert machine.temporary() == []


def _listens(server: LiveServer) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == 0
