"""A failed backup is told by mail, past a mail server that was down and a server that died."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.mail_server import MailBox, mail_server
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, ITEM, World


@pytest.fixture
def box(tmp_path: Path) -> Iterator[MailBox]:
    with mail_server(tmp_path / "mail") as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, box: MailBox) -> Iterator[World]:
    """With an item whose folder is not there."""
    settings = {
        "HOLDFAST_RESERVE_BYTES": "0",
        "HOLDFAST_TICK_SECONDS": "0.1",
        "HOLDFAST_SMTP_HOST": "127.0.0.1",
        "HOLDFAST_SMTP_PORT": str(box.port),
        "HOLDFAST_SMTP_FROM": "holdfast@example.org",
        "HOLDFAST_ALERT_EMAILS": "ann@example.org",
        "HOLDFAST_ALERT_CA_FILE": str(box.ca),
    }
    made = World(tmp_path, settings, test_mode=True)
    del made.environment["HOLDFAST_TEST_CLOCK"]
    try:
        made.set_up(tmp_path / "src")
        yield made
    finally:
        made.close()


def fired(world: World) -> list[str]:
    return [row["properties"]["holdfast"]["title"] for row in world.ask("alert", "list")]


def test_from_the_failure_to_its_end(world: World, box: MailBox) -> None:
    box.stop()
    crash = {"HOLDFAST_TEST_CRASH": "alert.send.after@2"}
    world.stop_server()
    world.start_server(crash)
    failed = world.cli("backup", "now", "--item", ITEM, "--container", HOST, "--wait")
    assert failed.code == 1, failed
    assert fired(world) == ["Backup failed"]
    alert = world.ask("alert", "list")[0]["name"]
    eventually(lambda: "Pending: mail server" in world.ok("alert", "show", alert).out, "it waits")
    box.start()
    eventually(lambda: len(box.taken) == 1, "the mail comes when its server is back")

    # the second message (of the end) is sent, and the server dies before it can note so
    (world.folder / "src").mkdir()
    (world.folder / "src" / "letter").write_text("here again")
    world.cli("backup", "now", "--item", ITEM, "--container", HOST)
    assert world.server is not None
    eventually(lambda: world.server is not None and world.server.poll() is not None, "it dies")
    world.start_server()
    eventually(lambda: len(box.taken) == 3, "what it could not note as sent is sent again")
    subjects = box.subjects()
    assert subjects[0] == "[Holdfast] Sev1: Backup failed: docs (v1)"
    assert subjects[1:] == ["[Holdfast] Resolved: Backup failed: docs (v1)"] * 2
    assert box.taken[1]["Message-ID"] == box.taken[2]["Message-ID"]

    assert fired(world) == []
    shown = world.ok("alert", "show", alert).out
    assert "New -> Acknowledged" not in shown
    world.ok("alert", "acknowledge", alert, "--comment", "saw it")
    world.ok("alert", "close", alert)
    shown = world.ok("alert", "show", alert).out
    assert "New -> Acknowledged by administrator: saw it" in shown
    assert "Acknowledged -> Closed" in shown
    assert "Fired -> Resolved by System: Backup of docs: Completed" in shown
    assert [row["name"] for row in world.ask("alert", "list", "--all")] == [alert]
    own = world.ask("alert", "settings", "--email", "eva@example.org", "--severity", "1")
    assert own["properties"] == {
        "emails": ["eva@example.org"],
        "webhooks": [],
        "severity": 1,
    }


def test_the_report_of_a_vault(world: World, box: MailBox) -> None:
    (world.folder / "src").mkdir()
    (world.folder / "src" / "letter").write_text("dear ann")
    world.back_up()
    table = world.ok("vault", "report", "v1", "-g", "rg1").out
    assert "docs" in table
    assert "alerts: none" in table
    body = world.ok("vault", "report", "v1", "-g", "rg1", "--format", "json").json
    (item,) = body["properties"]["items"]
    assert (item["name"], item["machine"], item["health"]) == (ITEM, HOST, "Healthy")
    assert (item["recoveryPoints"], item["logicalBytes"]) == (1, 8)
    assert item["storedBytes"] > 0
    assert body["properties"]["storedBytes"] >= item["storedBytes"]
    assert sum(day["completed"] for day in body["properties"]["backupsByDay"]) == 1
    page = world.folder / "report.html"
    world.ok("vault", "report", "v1", "-g", "rg1", "--format", "html", "--file", page)
    assert page.read_text().startswith("<!doctype html>")
    listed = world.ok("vault", "report", "v1", "-g", "rg1", "--format", "csv").out.splitlines()
    assert len(listed) == 2
    assert listed[1].startswith("v1,docs,host1,DefaultPolicy,Protected,Healthy,Completed,")
