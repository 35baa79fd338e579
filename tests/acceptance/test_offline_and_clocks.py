"""Machines that are off, servers that restart, tokens that went bad and clocks that are wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.testing.program_kills import job_of, make_tree, restored_like, status
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
NOW = ("backup", "now", "--item", ITEM, "--container", HOST)


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[World]:
    """A world whose clock the test moves, with one recovery point."""
    made = World(tmp_path, test_mode=True)
    made.set_clock(START)
    try:
        made.set_up(make_tree(made, "tree", 1))
        made.back_up()
        made.set_clock(START + timedelta(minutes=1))
        yield made
    finally:
        made.close()


def check_restored(world: World) -> None:
    out = world.folder / "restored"
    world.restore(out)
    assert restored_like(world.folder / "tree", out, owners=os.geteuid() == 0).lines == []


def test_a_machine_that_is_off_fails_its_job_in_time_and_comes_back(timed: World) -> None:
    timed.stop_agent()
    timed.ok(*NOW)
    job = job_of(timed, ITEM)
    eventually(
        lambda: (
            timed.ask("job", "show", job)["properties"]["holdfast"]["detail"]
            == f"waiting for the agent on {HOST}"
        ),
        "the job says what it waits for",
    )
    timed.set_clock(START + timedelta(days=3))
    eventually(lambda: status(timed, job) == "Failed", "the job gives up")
    shown = timed.cli("job", "wait", job)
    assert shown.code == 1
    assert "AgentOffline" in shown.out + shown.err
    assert "holdfast agent start" in shown.out + shown.err
    assert len(timed.points()) == 1
    timed.start_agent()
    timed.back_up()
    check_restored(timed)


def test_a_clock_far_ahead_expires_nothing_until_a_person_confirms_it(timed: World) -> None:
    (timed.folder / "tree" / "added").write_bytes(os.urandom(100_000))
    timed.back_up()
    timed.stop_agent()
    timed.stop_server()
    timed.set_clock(START + timedelta(days=4000))
    timed.start_server()
    timed.start_agent()
    for command in ("expire", "collect"):
        answer = timed.cli("vault", command, VAULT, "-g", GROUP)
        assert answer.code == 1
        assert "code: ClockUntrusted" in answer.err
        assert "confirm-clock" in answer.err
    assert len(timed.points()) >= 2
    check_restored(timed)
    timed.ok("vault", "confirm-clock", VAULT, "-g", GROUP)
    timed.ok("vault", "expire", VAULT, "-g", GROUP)
    left = timed.points()
    assert left, "the newest never expires by itself"


def test_a_backup_outlives_a_restart_of_the_server_and_so_does_who_follows_it(
    timed: World,
) -> None:
    timed.stop_agent()
    timed.ok(*NOW)
    job = job_of(timed, ITEM)
    assert timed.stop_server() == 0
    away = timed.cli("job", "list")
    assert away.code == 1
    assert "code: ServerUnreachable" in away.err
    timed.start_server()
    timed.start_agent()
    timed.ok("job", "wait", job)
    assert status(timed, job) == "Completed"
    assert len(timed.points()) == 2
