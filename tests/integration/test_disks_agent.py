"""Disks through a real server over TLS: killed and gone on with, incremental, restored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from holdfast.testing.disks_agent import client_of, session_of
from holdfast.testing.live_server import LiveServer
from holdfast.testing.ports import SeededRandom
from holdfast.testing.scripted_agent import ScriptedAgent
from holdfast.testing.wait import eventually
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.point_disk import PointDisk
from holdfast.workloads.vm.disks.raw_file import RawFileTarget
from holdfast.workloads.vm.disks.restore import DiskRestore

MIB = 1 << 20
HOST = "Hyper1"
PACK_BYTES = 32 * MIB


class Host:
    """A machine whose agent backs up images by hand."""

    def __init__(self, server: LiveServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.vault = server.make_vault("disks")
        self.agent = ScriptedAgent(server, self.vault, HOST, datetime.now(UTC))
        container = f"{self.vault}/backupFabrics/Azure/protectionContainers/Linux;{HOST}"
        self.item = f"{container}/protectedItems/FileFolder;web"
        properties = {
            "protectedItemType": "MabFileFolderProtectedItem",
            "policyId": f"{self.vault}/backupPolicies/DefaultPolicy",
            "holdfast": {"includePaths": ["/srv"]},
        }
        server.ok("PUT", self.item, {"properties": properties})
        key = self.agent.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key").write_bytes(key)

    def start(self, what: str, body: Any) -> dict[str, Any]:
        """Start a job and take its task; the config of a program that does it."""
        self.server.ok("POST", f"{self.item}{what}", {"properties": body})
        task = self.agent.next_task()
        return {
            "server": self.server.url,
            "ca": str(self.server.ca),
            "agentId": self.agent.enrolled["agentId"],
            "clientId": self.agent.enrolled["clientId"],
            "key": str(self.folder / "key"),
            "taskId": task["taskId"],
            "fence": task["fence"],
        }

    def back_up(self, config: dict[str, Any], crash: str = "") -> subprocess.CompletedProcess[str]:
        (self.folder / "config.json").write_text(json.dumps(config))
        return subprocess.run(
            [sys.executable, "-m", "holdfast.testing.disks_agent", self.folder / "config.json"],
            env={**os.environ, "HOLDFAST_TEST_CRASH": crash},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def complete(self, config: dict[str, Any], result: dict[str, Any]) -> None:
        body = {"fence": config["fence"], "outcome": "succeeded", "error": None, "result": result}
        answer = self.agent.call(f"tasks/{config['taskId']}/complete", body)
        assert answer.status_code == 200, answer.text
        eventually(self._is_idle, "the job ends")

    def _is_idle(self) -> bool:
        jobs = self.server.ok("GET", f"{self.vault}/backupJobs")["value"]
        return all(job["properties"]["status"] == "Completed" for job in jobs)

    def stored(self) -> int:
        found = self.server.ok("GET", self.vault)["properties"]["holdfast"]["vaultId"]
        packs = self.server.data.glob(f"vaults/{found}/packs/*/*")
        return sum(path.stat().st_size for path in packs)


def write(path: Path, pieces: list[tuple[int, bytes]], size: int) -> None:
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def test_two_disks_through_a_kill_an_incremental_and_a_restore(
    live: LiveServer, tmp_path: Path
) -> None:
    host, rng = Host(live, tmp_path), SeededRandom(5)
    images = [tmp_path / "one", tmp_path / "two"]
    noise = 96 * MIB
    write(images[0], [(0, rng.token(noise * 2 // 3)), (280 * MIB, b"far away")], 300 * MIB)
    write(images[1], [(8 * MIB, rng.token(noise // 3))], 60 * MIB + 512)
    disks = [{"lun": lun, "path": str(path), "dirty": []} for lun, path in enumerate(images)]

    # killed after two packs, and gone on with
    config = host.start("/backup", {}) | {"disks": disks, "since": ""}
    killed = host.back_up(config, "agent.after.PUT.packs@2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = host.back_up(config)
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert first["coverage"] == ["full", "full"]
    assert first["transferredBytes"] < noise - 2 * PACK_BYTES + 2 * MIB
    assert host.stored() < noise + 2 * MIB, "nothing is there twice"
    host.complete(config, first)

    # what changed, by the parent's map read through the backup's own session
    changes = [(5 * MIB - 7, rng.token(MIB)), (299 * MIB, b"late")]
    write(images[0], changes, 300 * MIB)
    disks[0]["dirty"] = [(offset, len(data)) for offset, data in changes]
    config = host.start("/backup", {}) | {"disks": disks, "since": first["recoveryPointId"]}
    done = host.back_up(config)
    assert done.returncode == 0, done.stderr
    second = json.loads(done.stdout)
    assert (second["coverage"], second["audits"]) == (["changes"] * 2, ["true"] * 2)
    assert second["readBytes"] < 4 * MIB + 2 * 2 * 16 * 256 * 1024
    assert second["transferredBytes"] < 3 * MIB
    host.complete(config, second)

    # back
    where = {"objectType": "FilesRestoreRequest", "recoveryType": "OriginalLocation"}
    config = host.start(f"/recoveryPoints/{second['recoveryPointId']}/restore", where)
    client = client_of(config)
    session = session_of(config, client)
    point = MachinePoint(ChunkFetcher(session))
    assert point.machine()["machine"] == {"name": "web"}
    for lun, image in enumerate(images):
        target = RawFileTarget(tmp_path / f"back-{lun}", image.stat().st_size)
        DiskRestore(point, lun, target).run()
        target.close()
        assert same(tmp_path / f"back-{lun}", image)
    disk = PointDisk(point, 0)
    part = bytearray(3 * MIB)
    disk.read_into(4 * MIB, memoryview(part))
    disk.close()
    with images[0].open("rb") as file:
        file.seek(4 * MIB)
        assert part == file.read(3 * MIB)
    session.close()
    client.close()
    host.complete(config, {})
    rows = live.ok("GET", f"{host.item}/recoveryPoints")["value"]
    assert {row["name"] for row in rows} == {first["recoveryPointId"], second["recoveryPointId"]}
