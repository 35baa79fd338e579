"""A damaged log record, found by a running server and by one that starts; and what test mode is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.program_kills import make_tree, restored_like
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        made.set_up(make_tree(made, "tree", 1))
        made.back_up()
        yield made
    finally:
        made.close()


def records(world: World) -> list[Path]:
    return sorted((world.vault_folder() / "log").iterdir())


def back_up(world: World) -> str:
    answer = world.cli("backup", "now", "--item", ITEM, "--container", HOST, "--wait")
    assert answer.code == 1
    assert "Traceback" not in answer.err
    return answer.out + answer.err


def test_a_damaged_record_is_named_and_nothing_is_lost(world: World) -> None:
    key = world.folder / "vault.key"
    world.ok("vault", "export-key", VAULT, "-g", GROUP, "-o", key)
    last = records(world)[-1]
    following = last.with_name(f"{int(last.name) + 1:016d}")
    following.write_bytes(b"not a record")
    said = back_up(world)
    assert "code: LogDamaged" in said, "a running server meets it with the next record"
    assert following.name in said
    count = len(records(world))
    world.stop_agent()
    world.stop_server()
    world.start_server()
    world.start_agent()
    said = back_up(world)
    assert "code: LogDamaged" in said, "a server that starts reads the whole log"
    assert following.name in said
    assert len(records(world)) == count, "nothing was written after it"
    alone = world.folder / "alone"
    words = ("--key", key, "--item", ITEM, "--recovery-point", "latest", "--to", alone)
    world.ok("store", "restore", "--path", world.vault_folder(), *words)
    owners = os.geteuid() == 0
    assert restored_like(world.folder / "tree", alone, owners=owners).lines == []
    following.unlink()
    world.back_up()  # a server that met the damage takes backups again without a restart
    assert len(world.points()) == 2


def test_the_clock_is_a_file_in_test_mode_only(world: World) -> None:
    for name in ("server", HOST):
        assert "--test-mode" not in world.log(name)
    world.stop_agent()
    world.stop_server()
    world.clock_file.write_text("2031-01-01T12:00:00+00:00")
    world.environment["HOLDFAST_TEST_CLOCK"] = str(world.clock_file)
    world.start_server()
    world.start_agent()
    world.back_up()
    times = [point["properties"]["recoveryPointTime"][:4] for point in world.points()]
    assert len(times) == 2
    assert "2031" not in times
    world.stop_agent()
    world.stop_server()
    world.test_mode = True
    world.start_server()
    world.start_agent()
    eventually(
        lambda: world.points()[0]["properties"]["recoveryPointTime"].startswith("2031-01-01"),
        "the schedule follows the file",
    )
    for name in ("server", HOST):
        assert "warning: --test-mode" in world.log(name)
