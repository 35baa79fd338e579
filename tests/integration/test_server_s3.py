"""A vault in S3, and its way to another server: region, recovery key, import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.object_store import open_store
from holdfast.catalog.identifiers import id_bytes
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.live_server import LiveServer, live_server
from holdfast.testing.servers import S3Service
from holdfast.vaultstore.values import Unlock
from holdfast.vaultstore.vault import Vault

QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}
STORE = "s3://vaults/site-a"
PASSPHRASE = "a passphrase of the test"
REGION = "/providers/Holdfast.Backup/regions/cloud"


def put_region(server: LiveServer, s3: S3Service) -> Any:
    body = {"properties": {"store": STORE, "credentials": s3.credentials}}
    return server.ok("PUT", REGION, body)


def test_a_vault_in_s3_is_imported_by_another_server(tmp_path: Path, s3_service: S3Service) -> None:
    s3 = s3_service
    with live_server(tmp_path / "first", QUICK) as first:
        region = put_region(first, s3)
        assert region["properties"]["hasCredentials"] is True
        assert "only-for-tests" not in str(region)
        first.ok("PUT", first.group("rg1"), {"location": "local"})
        first.ok("PUT", first.vault(), {"location": "cloud"})
        ours = first.ok("GET", first.vault())["properties"]["holdfast"]
        assert (ours["region"], ours["storeUrl"]) == ("cloud", STORE)
        export = f"{first.vault()}/providers/Holdfast.Backup/exportKey"
        key = first.ok("POST", export, {"properties": {"passphrase": PASSPHRASE}})["properties"]
        first.stop()
        point = back_up(first, s3, ours["vaultId"])
        with live_server(tmp_path / "second", QUICK) as second:
            imported = bring_in(second, s3, key["keyFile"])
            assert only_point(second, imported) == point
            assert "only-for-tests" not in second.log() + first.log()
            catalog = b"".join(path.read_bytes() for path in second.data.glob("catalog.sqlite*"))
            assert b"only-for-tests" not in catalog, "credentials are sealed"


def back_up(server: LiveServer, s3: S3Service, vault_id: str) -> str:
    """A recovery point made next to the stopped server, with its own key."""
    key = (server.data / "keys" / "platform.key").read_bytes()
    clock, rng = SystemClock(), SystemRandom()
    store = open_store(STORE, s3.credentials)
    unlock = Unlock(platform_key=key)
    vault = Vault.open(store, id_bytes(vault_id), unlock, clock=clock, rng=rng, cache_dir=None)
    agent = LittleAgent(vault, rng, "Linux;web1")
    record = agent.back_up({b"srv/a.txt": b"alpha", b"srv/b/c.txt": b"gamma" * 3000})
    vault.close()
    return record.rp_id


def bring_in(server: LiveServer, s3: S3Service, key_file: str) -> str:
    """Refused without the region, with a wrong passphrase and twice; the vault's ARM id."""
    address = f"{server.group('rg9')}/providers/Holdfast.Backup/importVault"
    asked = {"storeUrl": STORE, "keyFile": key_file, "passphrase": PASSPHRASE, "name": "back"}
    refused = server.call("POST", address, {"properties": asked})
    assert refused.json()["error"]["code"] == "RegionRequired"
    put_region(server, s3)
    wrong = server.call("POST", address, {"properties": asked | {"passphrase": "some other one"}})
    assert 400 <= wrong.status_code < 500
    assert server.get(server.vault("back", "rg9")).status_code == 404
    started = server.call("POST", address, {"properties": asked})
    assert server.finish(started)["status"] == "Succeeded"
    again = server.call("POST", address, {"properties": asked | {"name": "again"}})
    assert again.json()["error"]["code"] == "VaultAlreadyPresent"
    return server.vault("back", "rg9")


def only_point(server: LiveServer, vault: str) -> str:
    """The one recovery point of the imported item; browsed on the way."""
    policies = server.ok("GET", f"{vault}/backupPolicies")["value"]
    assert {row["name"] for row in policies} >= {"DefaultPolicy", "EnhancedPolicy"}
    (item,) = server.ok("GET", f"{vault}/backupProtectedItems")["value"]
    assert item["properties"]["protectionState"] == "ProtectionStopped"
    (point,) = server.ok("GET", f"{item['id']}/recoveryPoints")["value"]
    files = f"{point['id']}/providers/Holdfast.Backup/files"
    top = server.ok("GET", files, path="/srv")["value"]
    assert [(row["name"], row["type"]) for row in top] == [("a.txt", "file"), ("b", "directory")]
    first = server.ok("GET", files, **{"path": "/srv", "$top": "1"})
    assert [row["name"] for row in first["value"]] == ["a.txt"]
    headers = {"Authorization": f"Bearer {server.token()}"}
    rest = server.raw("GET", first["nextLink"], headers=headers).json()
    assert [row["name"] for row in rest["value"]] == ["b"]
    missing = server.call("GET", files, query={"path": "/nowhere"})
    assert missing.json()["error"]["code"] == "PathNotFound"
    return str(point["name"])
