"""What a user types about regions, vaults and their stores, and what they see, as a table and as
JSON."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from holdfast.testing.program_kills import make_tree, restored_like
from holdfast.testing.tables import rows_of
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

HERE = ("-g", GROUP)


def a_vault(world: World, name: str, *more: str | Path) -> Path:
    """A new vault; its folder."""
    shown = world.ask("vault", "create", name, *HERE, *more)
    ours = shown["properties"]["holdfast"]
    return Path(ours["storeUrl"].removeprefix("file://")) / str(ours["vaultId"])


def test_regions_say_where_vaults_lie(world: World, tmp_path: Path) -> None:
    store = (tmp_path / "nas").as_uri()
    made = rows_of(world.ok("region", "create", "nas", "--store", store).out)
    assert made == [{"name": "nas", "store": store, "credentials": "no"}]
    assert rows_of(world.ok("region", "show", "nas").out) == made
    assert world.ask("region", "show", "nas")["properties"]["store"] == store
    listed = {row["name"]: row["properties"]["store"] for row in world.ask("region", "list")}
    assert listed["nas"] == store
    assert listed["local"] == (world.server_data / "vaults").as_uri()
    assert {row["name"] for row in rows_of(world.ok("region", "list").out)} == set(listed)

    folder = a_vault(world, "on-nas", "-l", "nas")
    assert folder.parent == tmp_path / "nas"
    assert (folder / "descriptor").is_file()
    unknown = a_vault(world, "anywhere", "-l", "westeurope")
    assert unknown.parent == world.server_data / "vaults", "an unknown one uses the default store"
    assert world.ask("vault", "show", "anywhere", *HERE)["location"] == "westeurope"
    refused = world.cli("region", "show", "nowhere")
    assert refused.code == 1
    assert "code: " in refused.err and "what to do: " in refused.err


def test_a_vault_is_changed_deleted_and_brought_back(world: World) -> None:
    a_vault(world, "office")
    words = ("vault", "update", "office", *HERE)
    assert world.ask(*words, "--tag", "owner=ann", "--tag", "room=7")["tags"] == {
        "owner": "ann",
        "room": "7",
    }
    settings = json.dumps({"monitoringSettings": {"azureMonitorAlertSettings": {}}})
    assert world.ask(*words, "--properties", settings)["tags"] == {"owner": "ann", "room": "7"}
    changed = world.ok(*words, "--soft-delete", "enabled", "--soft-delete-days", "20").out
    assert rows_of(changed)[0]["name"] == "office"
    assert "soft delete: 20 days" in world.ok("vault", "show", "office", *HERE).out
    world.ok(*words, "--immutability", "unlocked")
    world.ok(*words, "--immutability", "locked", "--yes")
    assert "immutability: on, locked for ever" in world.ok("vault", "show", "office", *HERE).out

    assert "deleted; with soft delete" in world.ok("vault", "delete", "office", *HERE, "--yes").out
    names = {row["name"] for row in rows_of(world.ok("vault", "list", *HERE).out)}
    assert VAULT in names and "office" not in names
    gone = rows_of(world.ok("vault", "list-deleted", "-l", "local").out)
    assert [row["vault"] for row in gone] == ["office"]
    back = world.ask("vault", "undelete", "office", "-l", "local", "--recovery-group", GROUP)
    assert back["tags"] == {"owner": "ann", "room": "7"}
    assert world.ask("vault", "list-deleted") == []
    assert "office" in {row["name"] for row in world.ask("vault", "list", *HERE)}
    missing = world.ok("vault", "delete", "never", *HERE, "--yes").out
    assert "there was no such vault" in missing


def test_upkeep_shows_its_plan_and_does_it(tmp_path: Path) -> None:
    now = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    world = World(tmp_path, test_mode=True)
    world.set_clock(now)
    tree = make_tree(world, "tree", 5)
    try:
        world.set_up(tree)
        named = (VAULT, *HERE)
        world.ok("vault", "update", *named, "--soft-delete", "disabled")
        world.back_up("--retain-until", (now + timedelta(minutes=5)).isoformat())
        due = str(world.points()[0]["name"])
        (tree / "large").write_bytes(os.urandom(1_000_000))
        world.set_clock(now + timedelta(minutes=2))
        world.back_up()
        world.set_clock(now + timedelta(minutes=10))

        planned = rows_of(world.ok("vault", "expire", *named, "--plan").out)
        assert {row["recovery point"]: row["keep"] for row in planned}[due] == "no"
        rows = world.ask("vault", "expire", *named, "--plan")["properties"]["plan"]
        assert {row["recoveryPointId"]: row["keep"] for row in rows}[due] is False
        assert len(world.points()) == 2, "a plan changes nothing"
        assert "1 recovery points dropped" in world.ok("vault", "expire", *named).out
        assert [point["name"] for point in world.points()] != [due]
        assert len(world.points()) == 1

        frees = world.ask("vault", "collect", *named, "--plan")["properties"]["plan"]
        assert {row["what"] for row in rows_of(world.ok("vault", "collect", *named, "--plan").out)}
        assert sum(row["packs"] for row in frees) > 0
        before = sum(one.stat().st_size for one in world.vault_folder().rglob("packs/**/*"))
        ended = world.ask("vault", "collect", *named)
        assert ended["properties"]["status"] == "Completed"
        world.ok("vault", "collect", *named)
        after = sum(one.stat().st_size for one in world.vault_folder().rglob("packs/**/*"))
        assert after < before

        kept = world.ask("vault", "verify", *named, "--plan")["properties"]["packs"]
        assert f"packs: {kept}" in world.ok("vault", "verify", *named, "--plan").out
        verified = world.ask("vault", "verify", *named)
        assert verified["properties"]["operation"] == "Verify"
        assert verified["properties"]["status"] == "Completed"
        world.restore(tmp_path / "out")
        assert restored_like(tree, tmp_path / "out", owners=os.geteuid() == 0).lines == []
    finally:
        world.close()


def test_a_vault_is_read_without_a_server_and_imported_by_a_passphrase_file(
    world: World, tmp_path: Path
) -> None:
    source, phrase, key = world.folder / "src", tmp_path / "phrase", tmp_path / "vault.key"
    phrase.write_text("another passphrase\n")
    (source / "only.txt").write_text("only this")
    world.back_up()
    with_file = ("--passphrase-file", phrase)
    world.ok("vault", "export-key", VAULT, *HERE, "-o", key, *with_file)
    alone = ("--path", world.vault_folder(), "--key", key)
    listed = rows_of(world.ok("store", "list", *alone, *with_file).out)
    points = {str(point["name"]) for point in world.points()}
    assert {row["recovery point"] for row in listed} == points
    assert {(row["item"], row["machine"]) for row in listed} == {(ITEM, HOST)}
    rows = world.ask("store", "list", *alone, *with_file)
    assert {row["recoveryPoint"] for row in rows} == points
    wrong = world.cli("store", "list", *alone)
    assert wrong.code == 1 and "passphrase" in wrong.err

    words = ("store", "restore", *alone, *with_file, "--item", ITEM, "--container", HOST)
    only = ("--only", source / "only.txt")
    told = world.ok(*words, "--recovery-point", "latest", "--to", tmp_path / "out", *only).out
    assert "1 files restored" in told
    restored = tmp_path / "out" / str(source).lstrip("/")
    assert [path.name for path in restored.iterdir()] == ["only.txt"]
    assert (restored / "only.txt").read_text() == "only this"

    other = World(tmp_path / "other")
    other.folder.mkdir()
    del other.environment["HOLDFAST_VAULT"]
    try:
        other.start_server()
        other.login()
        asked = ("--path", world.vault_folder(), "--key", key, *HERE, "--name", "back")
        told = other.ok("vault", "import", *asked, *with_file).out
        assert f"the vault is back in {GROUP}" in told
        there = ("-g", GROUP, "-v", "back", "--item", ITEM, "--container", HOST)
        assert {row["name"] for row in other.ask("recovery-point", "list", *there)} == points
    finally:
        other.close()
