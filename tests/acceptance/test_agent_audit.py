"""What agents do stands in the audit record, by name; what they ask is counted and held back."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import LimitError
from holdfast.services.lookups import BURST_SECONDS, LookupRate, TooManyLookupsError
from holdfast.testing.live_server import LiveServer
from holdfast.testing.ports import MovableClock
from holdfast.testing.world import HOST, World

AGENTS = "Holdfast.Backup/agents"


def audit_of(world: World) -> list[dict[str, Any]]:
    """The record's entries about agents, oldest first."""
    server = LiveServer(world.server_data)
    server.port = world.port
    rows = server.ok("GET", "/providers/Holdfast.Backup/audit")["value"]
    server.stop()
    found = [row["properties"] for row in reversed(rows)]
    return [entry for entry in found if AGENTS in entry["operation"]]


def change(source: Path, name: str, count: int = 3) -> None:
    """Files large enough to be chunks of their own."""
    source.mkdir(exist_ok=True)
    for number in range(count):
        (source / f"{name}-{number}").write_bytes(os.urandom(600_000))


def test_every_change_by_an_agent_is_recorded_by_name_and_packs_as_sums(bare: World) -> None:
    source = bare.folder / "src"
    change(source, "first")
    bare.set_up(source)
    bare.back_up()
    change(source, "second")
    (source / "copy").write_bytes((source / "first-0").read_bytes())
    bare.back_up()
    entries = audit_of(bare)
    assert all(entry["principalName"] == HOST for entry in entries), entries
    assert entries[0]["operation"] == f"POST {AGENTS}/enroll/action"
    assert entries[0]["principalId"]
    assert HOST in entries[0]["details"]["container"]
    words = [entry["operation"].partition(f"{AGENTS}/")[2] for entry in entries[1:]]
    one_backup = [
        "tasks/take/action",
        "sessions/write",
        "sessions/commit/action",
        "sessions/close/action",
        "tasks/complete/action",
    ]
    assert [word for word in words if word != "sessions/checkpoint/action"] == one_backup * 2
    first, second = (
        entry["details"] for entry in entries if entry["operation"].endswith("/close/action")
    )
    assert first["packs"] >= 1
    assert first["bytes"] > 3 * 600_000
    assert first["ids_asked"] == 0, "a first backup asks nothing"
    assert second["bytes"] > 3 * 600_000
    assert second["ids_asked"] > second["ids_present"] >= 1, "the copy was there already"


def test_an_agent_that_asks_too_fast_pauses_as_told_and_completes(tmp_path: Path) -> None:
    world = World(tmp_path, {"HOLDFAST_LOOKUP_IDS_PER_SECOND": "2"})
    source = tmp_path / "src"
    change(source, "first", 1)
    try:
        world.set_up(source)
        world.back_up()
        change(source, "second", 26)
        assert world.back_up().code == 0
        assert "the server asks for a pause" in world.log(HOST)
        answered = [line for line in world.log("server").splitlines() if "TooManyLookups" in line]
        assert 0 < len(answered) < 40, "it waits as long as it is told"
        world.restore(tmp_path / "back")
    finally:
        world.close()
    there = tmp_path / "back" / str(source).lstrip("/")
    for path in source.iterdir():
        assert (there / path.name).read_bytes() == path.read_bytes()


def test_the_rate_is_an_agents_own_and_comes_back() -> None:
    clock = MovableClock()
    rate = LookupRate(100.0, clock.monotonic)
    rate.take("a", int(100 * BURST_SECONDS))
    rate.take("a", 500)
    with pytest.raises(TooManyLookupsError) as told:
        rate.take("a", 1)
    assert isinstance(told.value, LimitError)
    assert told.value.wait_seconds == 5
    rate.take("b", 1)
    clock.pass_time(timedelta(seconds=told.value.wait_seconds))
    rate.take("a", 1)
