"""What a user types about machines, items, policies, points and jobs, and what they see, as a table
and as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from holdfast.testing.program_kills import job_of, make_tree
from holdfast.testing.tables import rows_of
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

HERE = ("-g", GROUP, "-v", VAULT)


def on(item: str) -> tuple[str, ...]:
    return ("--item", item, "--container", HOST, *HERE)


def files_of(world: World, folder: Path, item: str, out: Path) -> set[str]:
    """Names of what a restore of the latest point puts back below ``folder``."""
    words = ("restore", *on(item), "--recovery-point", "latest", "--to", out, "--wait")
    assert world.ask(*words)["properties"]["status"] == "Completed"
    place = out / str(folder).lstrip("/")
    return {path.name for path in place.rglob("*") if path.is_file()}


def test_includes_and_excludes_are_what_a_backup_takes(world: World, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        for name in ("a.txt", "b.tmp", "c.log"):
            (folder / name).write_text(f"{folder.name} {name}")
    named = ("chosen", "--container", HOST, *HERE)
    made = world.ok(
        *("item", "protect", *named, "--include", one, "--exclude", "*.tmp"),
        *("--policy", "DefaultPolicy"),
    )
    assert rows_of(made.out)[0]["item"] == "chosen"
    world.back_up(item="chosen")
    assert files_of(world, one, "chosen", tmp_path / "first") == {"a.txt", "c.log"}

    words = ("item", "update", *named)
    changed = world.ask(*words, "--include", one, "--include", two, "--exclude", "*.log")
    ours = changed["properties"]["holdfast"]
    assert ours["includePaths"] == [str(one), str(two)]
    assert ours["excludeGlobs"] == ["*.log"]
    world.ok(*words, "--policy", "EnhancedPolicy")
    shown = world.ok("item", "show", *named).out
    assert rows_of(shown)[0]["policy"] == "EnhancedPolicy"
    assert f"includes: {one}, {two}" in shown and "excludes: *.log" in shown
    world.back_up(item="chosen")
    out = tmp_path / "second"
    assert files_of(world, one, "chosen", out) == {"a.txt", "b.tmp"}
    assert {path.name for path in (out / str(two).lstrip("/")).iterdir()} == {"a.txt", "b.tmp"}
    assert "chosen" in {row["item"] for row in rows_of(world.ok("item", "list", *HERE).out)}


def policy(days: int) -> dict[str, Any]:
    at = ["2026-01-01T13:00:00Z"]
    kept = {
        "retentionTimes": at,
        "retentionDuration": {"count": days, "durationType": "Days"},
    }
    return {
        "backupManagementType": "AzureIaasVM",
        "timeZone": "UTC",
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": "Daily",
            "scheduleRunTimes": at,
        },
        "retentionPolicy": {
            "retentionPolicyType": "LongTermRetentionPolicy",
            "dailySchedule": kept,
        },
    }


def test_a_policy_is_previewed_made_listed_and_deleted(world: World, tmp_path: Path) -> None:
    if not world.points():
        world.back_up()
    draft = tmp_path / "draft.json"
    draft.write_text(json.dumps(policy(7)))
    words = ("policy", "preview", "weekly", "--file", draft, *HERE)
    rows = {row["recovery point"]: row for row in rows_of(world.ok(*words).out)}
    points = [str(point["name"]) for point in world.points()]
    assert set(points) <= set(rows)
    assert rows[points[0]]["keep"] == "yes"
    assert "next backup (UTC): " in world.ok(*words).out
    asked = {row["recoveryPointId"]: row for row in world.ask(*words)}
    assert asked[points[0]]["keep"] is True and asked[points[0]]["reason"]
    assert "weekly" not in {row["name"] for row in world.ask("policy", "list", *HERE)}

    world.ok("policy", "create", "weekly", "--file", draft, *HERE)
    listed = {row["name"]: row for row in rows_of(world.ok("policy", "list", *HERE).out)}
    assert listed["weekly"]["retention"] == "daily 7 Days"
    assert world.ok("policy", "delete", "weekly", *HERE).out == "deleted\n"
    assert "no such policy" in world.ok("policy", "delete", "weekly", *HERE).out
    used = world.cli("policy", "delete", "DefaultPolicy", *HERE)
    assert used.code == 1 and "what to do: " in used.err


def test_a_point_is_kept_until_the_date_and_shown(world: World) -> None:
    """The latest has no end, whatever was asked for; it gets it with the next one."""
    words = ("backup", "now", *on(ITEM), "--retain-until", "2030-01-02", "--wait")
    made = world.ask(*words)
    assert made["properties"]["status"] == "Completed"
    point = str(world.points()[0]["name"])
    world.back_up()
    show = ("recovery-point", "show", "--recovery-point", point, *on(ITEM))
    shown = world.ok(*show).out
    row = rows_of(shown)[0]
    assert row["recovery point"] == point
    assert row["expires (UTC)"].startswith("2030-01-02")
    assert f"made by job {made['name']}" in shown
    life = world.ask(*show)["properties"]["recoveryPointProperties"]
    assert life["expiryTime"].startswith("2030-01-02")
    listed = rows_of(world.ok("recovery-point", "list", *on(ITEM)).out)
    assert listed[1] == row
    browsed = ("recovery-point", "browse", "--recovery-point", "latest", *on(ITEM))
    names = {row["name"] for row in rows_of(world.ok(*browsed, world.folder / "src").out)}
    assert {"dir-1", "large.bin", "link -> large.bin"} <= names


def test_a_job_is_found_by_its_state_and_cancelled(world: World, tmp_path: Path) -> None:
    tree = tmp_path / "slow"
    tree.mkdir()
    (tree / "long").write_bytes(os.urandom(5_000_000))
    named = ("slow", "--container", HOST, *HERE)
    words = ("item", "protect", *named, "--include", tree, "--policy", "DefaultPolicy")
    world.ok(*words, "--throttle", "200kB")
    started = world.ok("backup", "now", *on("slow")).out
    job = job_of(world, "slow")
    assert f"job {job} started" in started
    running = ("job", "list", "--status", "InProgress", "--operation", "Backup", *HERE)
    assert [row["of"] for row in rows_of(world.ok(*running).out)] == ["slow"]
    assert f"holdfast job show {job}" in world.ok("job", "cancel", job, *HERE).out
    ended = world.cli("job", "wait", job, *HERE)
    assert ended.code == 1 and "Cancelled" in ended.out
    assert job in {row["name"] for row in world.ask("job", "list", "--status", "Cancelled", *HERE)}
    shown = world.ok("job", "show", job, *HERE).out
    assert "history (UTC):" in shown and "Cancelled" in shown
    assert rows_of(world.ok(*running).out) == []


def test_an_item_is_deleted_brought_back_and_resumed(world: World, tmp_path: Path) -> None:
    tree = make_tree(world, "to-delete", 8)
    world.protect(tree, item="passing")
    world.back_up(item="passing")
    named = ("passing", "--container", HOST, *HERE)
    stopped = world.ask("item", "disable", *named, "--retain-as-per-policy")
    assert stopped["properties"]["protectionState"] == "BackupsSuspended"
    ended = world.ask("item", "disable", *named, "--delete-data", "--yes")
    assert ended["properties"]["status"] == "Completed"
    gone = {row["item"]: row for row in rows_of(world.ok("item", "list", *HERE).out)}["passing"]
    assert gone["state"] == "SoftDeleted" and gone["gone for good (UTC)"]

    back = rows_of(world.ok("item", "undelete", *named).out)[0]
    assert (back["state"], back["points"]) == ("ProtectionStopped", "1")
    plan = world.ask("item", "resume", *named, "--policy", "DefaultPolicy", "--plan")
    assert plan["properties"]["recoveryPoints"] == 1
    told = world.ok("item", "resume", *named, "--policy", "DefaultPolicy", "--plan").out
    assert "nothing was changed" in told
    assert world.ask("item", "show", *named)["properties"]["protectionState"] == "ProtectionStopped"
    resumed = world.ask("item", "resume", *named, "--policy", "DefaultPolicy")
    assert resumed["properties"]["policyName"] == "DefaultPolicy"
    assert files_of(world, tree, "passing", tmp_path / "out") == {
        path.name for path in tree.rglob("*") if path.is_file()
    }


def test_a_machine_is_shown_and_unregistered(world: World) -> None:
    assert world.enroll("leaving").code == 0
    world.start_agent("leaving")
    shown = rows_of(world.ok("container", "show", "leaving", *HERE).out)[0]
    assert (shown["machine"], shown["name"], shown["items"]) == ("leaving", "Linux;leaving", "0")
    assert world.ask("container", "show", "leaving", *HERE)["name"] == "Linux;leaving"
    agent = world.agents.pop("leaving")
    told = world.ok("container", "unregister", "leaving", *HERE).out
    assert "leaving is unregistered" in told
    listed = {row["machine"] for row in rows_of(world.ok("container", "list", *HERE).out)}
    assert HOST in listed and "leaving" not in listed
    eventually(lambda: agent.poll() is not None, "the agent's end")
    assert "AgentRevoked" in world.log("leaving")
    busy = world.cli("container", "unregister", HOST, *HERE)
    assert busy.code == 1 and "code: BMSUserErrorContainerHasDatasources" in busy.err
