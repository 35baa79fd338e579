"""Servers over a PostgreSQL catalog: one, and two that share it."""

from __future__ import annotations

import shutil
from pathlib import Path

from holdfast.testing.live_server import LiveServer
from holdfast.testing.servers import Postgres


def test_two_servers_share_a_catalog_and_its_keys(
    tmp_path: Path, postgres_server: Postgres
) -> None:
    environment = {
        "HOLDFAST_CATALOG_URL": postgres_server.database(),
        "HOLDFAST_RESERVE_BYTES": "0",
        "HOLDFAST_TICK_SECONDS": "0.1",
    }
    first = LiveServer(tmp_path / "first", environment)
    second = LiveServer(tmp_path / "second", environment)
    try:
        first.start()
        assert not list(first.data.glob("*.sqlite"))
        vault = first.make_vault()
        second.spawn()
        assert second.process is not None
        assert second.process.wait(timeout=60) != 0
        assert "platform.key is missing" in second.log(), "a server without the keys is refused"
        shutil.rmtree(second.data / "keys")
        shutil.copytree(first.data / "keys", second.data / "keys")
        for name in ("admin.json", "ca.pem"):
            shutil.copy(first.data / name, second.data / name)
        second.start()
        token = first.token()
        assert second.get(vault, token=token).status_code == 200, "one installation, one token"
        collect = f"{vault}/providers/Holdfast.Backup/collect"
        for server in (first, second):
            started = server.call("POST", collect, {"properties": {}}, token=token)
            assert server.finish(started)["status"] == "Succeeded"
        jobs = second.ok("GET", f"{vault}/backupJobs")["value"]
        assert [job["properties"]["status"] for job in jobs] == ["Completed"] * 2
        assert first.stop() == 0
        first.start()
        assert first.get(vault, token=token).status_code == 200
    finally:
        first.stop()
        second.stop()
