"""A vault's folder that is moved, unmounted or replaced by an older copy costs no point."""

from __future__ import annotations

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


def test_an_older_copy_of_the_folder_is_told_and_the_newest_brings_all_back(bare: World) -> None:
    bare.environment["HOLDFAST_ALERT_CHECK_SECONDS"] = "1"
    source = a_source(bare, "first", "one")
    bare.set_up(source)
    bare.back_up()
    bare.stop_server()
    folder = bare.vault_folder()
    older, newest = bare.folder / "older", bare.folder / "newest"
    shutil.copytree(folder, older)
    bare.start_server()
    a_source(bare, "second", "two")
    bare.back_up()
    lost, kept = (point["name"] for point in bare.points())
    assert "lostRecoveryPoints" in show(bare)
    folder.rename(newest)
    shutil.copytree(older, folder)
    answer = bare.cli(*NOW)
    assert answer.code == 1
    assert "LogCut" in answer.out + answer.err

    bare.stop_server()
    bare.start_server()
    said = show(bare)
    assert [one["id"] for one in said["lostRecoveryPoints"]] == [lost]
    assert any(lost in warning and ITEM in warning for warning in said["warnings"])
    assert [point["name"] for point in bare.points()] == [kept]
    listed = bare.ask("vault", "expire", VAULT, "-g", GROUP)
    assert listed
    assert [one["id"] for one in show(bare)["lostRecoveryPoints"]] == [lost], "still named"
    eventually(lambda: "RecoveryPointsLost" in alerts(bare), "an alert tells of it")

    bare.stop_server()
    shutil.rmtree(folder)
    newest.rename(folder)
    bare.start_server()
    assert show(bare)["lostRecoveryPoints"] == []
    eventually(lambda: "RecoveryPointsLost" not in alerts(bare), "it is over")
    assert [point["name"] for point in bare.points()] == [lost, kept]
    assert restored(bare, lost, source) == files_of(source)
