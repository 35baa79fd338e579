"""A vault's folder that is moved, unmounted or replaced by an older copy costs no point."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

NOW = ("backup", "now", "--item", ITEM, "--container", HOST, "--wait")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def a_source(world: World, name: str, text: str) -> Path:
    source = world.folder / "src"
    source.mkdir(exist_ok=True)
    (source / name).write_text(text * 5000)
    return source


def restored(world: World, point: str, source: Path) -> dict[str, bytes]:
    target = world.folder / f"to-{point}"
    world.restore(target, point=point)
    return files_of(target / str(source).lstrip("/"))


def test_a_vault_moved_under_a_running_server_takes_nothing_until_it_is_back(bare: World) -> None:
    source = a_source(bare, "first", "one")
    bare.set_up(source)
    bare.back_up()
    before = files_of(source)
    folder = bare.vault_folder()
    away = bare.folder / "away"
    folder.rename(away)
    stored = files_of(away)
    a_source(bare, "second", "two")
    for mount_point in (False, True):
        if mount_point:
            folder.mkdir()
        answer = bare.cli(*NOW)
        shown = answer.out + answer.err
        assert answer.code == 1, shown
        assert "VaultStoreMissing" in shown
        assert "what to do" in shown.lower()
        assert "Traceback" not in shown
        assert not folder.exists() or not any(folder.iterdir()), "a second vault would begin"
        verified = bare.cli("vault", "verify", VAULT, "-g", GROUP)
        assert "VaultStoreMissing" in verified.out + verified.err
    assert files_of(away) == stored
    folder.rmdir()
    away.rename(folder)
    assert bare.back_up().code == 0
    newest, oldest = (point["name"] for point in bare.points())
    assert restored(bare, newest, source) == files_of(source)
    assert restored(bare, oldest, source) == before
    assert bare.cli("vault", "verify", VAULT, "-g", GROUP).code == 0


def show(world: World) -> dict[str, Any]:
    body: dict[str, Any] = world.ask("vault", "show", VAULT, "-g", GROUP)
    found: dict[str, Any] = body["properties"]["holdfast"]
    return found


def alerts(world: World) -> set[str]:
    """The rules of those that stand."""
    rows = world.ask("alert", "list", "-v", VAULT, "-g", GROUP)
    return {row["properties"]["essentials"]["alertRule"] for row in rows}


def read_only(world: World) -> str:
    """The code of what keeps the vault from taking anything."""
    found = show(world)["readOnly"]
    return str(found["code"]) if found else ""


def refused(world: World, code: str) -> None:
    answer = world.cli(*NOW)
    shown = answer.out + answer.err
    assert answer.code == 1
    assert code in shown
    assert "accept-head" in shown


def test_an_older_copy_takes_nothing_and_the_newest_brings_all_back(bare: World) -> None:
    bare.environment["HOLDFAST_ALERT_CHECK_SECONDS"] = "1"
    source = a_source(bare, "first", "one")
    bare.set_up(source)
    bare.back_up()
    bare.stop_server()
    folder = bare.vault_folder()
    older, newest = bare.folder / "older", bare.folder / "newest"
    shutil.copytree(folder, older)
    bare.start_server()
    before = files_of(source)
    a_source(bare, "second", "two")
    bare.back_up()
    lost, kept = (point["name"] for point in bare.points())
    noted = bare.folder / "head.json"
    noted.write_text(json.dumps(bare.ask("vault", "show", VAULT, "-g", GROUP)))
    folder.rename(newest)
    shutil.copytree(older, folder)
    refused(bare, "Log")  # cut, or opened anew and rolled back

    bare.stop_server()
    stored = files_of(folder)
    bare.start_server()
    said = show(bare)
    assert said["readOnly"]["code"] == "LogRolledBack", "the catalog remembers"
    assert [one["id"] for one in said["lostRecoveryPoints"]] == [lost]
    assert [point["name"] for point in bare.points()] == [kept]
    assert restored(bare, kept, source) == before
    eventually(lambda: {"VaultDamaged", "RecoveryPointsLost"} <= alerts(bare), "alerts tell")
    assert files_of(folder) == stored, "nothing was written"

    shutil.rmtree(folder)
    newest.rename(folder)
    said = show(bare)
    assert (said["readOnly"], said["lostRecoveryPoints"]) == (None, []), "without a restart"
    assert [point["name"] for point in bare.points()] == [lost, kept]
    assert restored(bare, lost, source) == files_of(source)
    eventually(lambda: not alerts(bare) & {"VaultDamaged", "RecoveryPointsLost"}, "it is over")
    bare.back_up()
    audited = bare.ask("vault", "audit", VAULT, "-g", GROUP, "--since", noted)["properties"]
    assert audited["totals"]["recovery point added"] == 1


def test_agents_remember_what_server_and_store_forgot_and_a_person_goes_on(bare: World) -> None:
    source = a_source(bare, "first", "one")
    bare.set_up(source)
    bare.back_up()
    bare.stop_server()
    both = bare.folder / "both"
    shutil.copytree(bare.server_data, both)
    bare.start_server()
    before = files_of(source)
    a_source(bare, "second", "two")
    bare.back_up()
    kept = bare.points()[-1]["name"]
    bare.stop_server()
    shutil.rmtree(bare.server_data)
    both.rename(bare.server_data)  # vault and catalog, both older
    bare.start_server()
    refused(bare, "LogRolledBack")  # by the agent's word: nothing at the server knows better
    assert read_only(bare) == "LogRolledBack"
    assert restored(bare, kept, source) == before

    words = ("vault", "accept-head", VAULT, "-g", GROUP)
    plan = bare.ask(*words, "--plan")["properties"]
    assert plan["newTerm"] == 2
    assert [HOST in seen["seenBy"] for seen in plan["witnesses"]] == [True]
    assert bare.cli(*words).code == 2, "nobody said yes"
    told = bare.ok(*words, "--yes")
    assert "under term 2" in told.out
    bare.back_up()
    assert restored(bare, bare.points()[0]["name"], source) == files_of(source)
    assert "HeadNotInDoubt" in bare.cli(*words, "--yes").err
    audited = bare.ask("vault", "audit", VAULT, "-g", GROUP, "--since", "0")["properties"]
    assert audited["totals"]["head accepted"] == 1
