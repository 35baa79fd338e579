"""A flipped bit in a pack, met as a user would: found without a key, its files named, sent again by
the next backup, and the older recovery point whole again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.program_kills import make_tree, restored_like
from holdfast.testing.world import GROUP, VAULT, World

NAMED = (VAULT, "-g", GROUP)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        made.set_up(make_tree(made, "tree", 1))
        made.back_up()
        yield made
    finally:
        made.close()


def flip_in_largest(world: World) -> str:
    """Damage a pack of content; its name as the vault has it."""
    folder = world.vault_folder()
    path = max(folder.glob("packs/*/*"), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    return str(path.relative_to(folder))


def shown(world: World) -> dict[str, object]:
    found: dict[str, object] = world.ask("vault", "show", *NAMED)["properties"]["holdfast"]
    return found


def test_a_flipped_bit_is_found_named_and_healed(world: World) -> None:
    tree, owners = world.folder / "tree", os.geteuid() == 0
    first = str(world.points()[0]["name"])
    pack = flip_in_largest(world)

    alone = world.cli("store", "scrub", "--path", world.vault_folder(), "-o", "json")
    assert alone.code == 3
    assert [(one["object"], one["problem"]) for one in json.loads(alone.out)["damages"]] == [
        (pack, "altered")
    ]
    scrubbed = world.cli("vault", "scrub", *NAMED)
    assert scrubbed.code == 1
    assert pack in scrubbed.out + scrubbed.err
    assert shown(world)["damagedObjects"] == 1
    plan = world.ask("vault", "repair", *NAMED, "--plan")["properties"]["plan"]
    assert [(one["action"], one["recoveryPoints"]) for one in plan] == [("wait", [first])]
    lost = plan[0]["files"]
    assert lost

    partly = world.folder / "partly"
    answer = world.restore(partly, point=first)
    assert answer.code == 3, "what cannot be given is a finding, the rest is restored"
    held = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file()}
    came = {path.relative_to(tree) for path in held_below(partly, tree)}
    assert {str(tree / path).lstrip("/") for path in held - came} == set(lost)

    world.back_up()
    world.ok("vault", "repair", *NAMED)
    world.ok("vault", "verify", *NAMED)
    assert shown(world)["damagedObjects"] == 0
    whole = world.folder / "whole"
    world.restore(whole, point=first)
    assert restored_like(tree, whole, owners=owners).lines == []


def held_below(target: Path, tree: Path) -> Iterator[Path]:
    """Files a restore put below ``target``, by the names they had."""
    for path in (target / str(tree).lstrip("/")).rglob("*"):
        if path.is_file():
            yield Path("/") / path.relative_to(target)
