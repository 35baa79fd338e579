"""Running machines from the vault, migrating and testing them: the way from a command to its
result, against a real server with a host whose machines are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.access import CONTRIBUTOR, OPERATOR, READER
from holdfast.testing.little_vms import PICTURE
from holdfast.testing.live_server import LiveServer
from holdfast.testing.vm_farm import Farm, vm_farm
from holdfast.testing.vm_typing import Type, asked, typist
from holdfast.testing.wait import eventually

LATEST = ("--recovery-point", "latest")


@pytest.fixture(scope="module")
def yard(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with vm_farm(live, tmp_path_factory.mktemp("runs"), "runs") as made:
        for name in ("web", "off"):
            made.spot.protect(name, "EnhancedPolicy")
        made.back_up("web")
        yield made


@pytest.fixture
def typed(yard: Farm, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    return typist(yard, "runs", monkeypatch.setenv, capfd.readouterr)


def ours(typed: Type, name: str) -> Any:
    """What the vault says of a machine; None when there is none of that name."""
    rows = asked(typed, "vm", "list")
    return next((one["properties"]["holdfast"] for one in rows if one["name"] == name), None)


def refused(typed: Type, code: str, *words: str | Path) -> None:
    ended, _, said = typed(*words)
    assert ended != 0
    assert code in said, said


def test_a_machine_runs_from_the_vault_until_it_is_moved(
    typed: Type, yard: Farm, tmp_path: Path
) -> None:
    job = asked(typed, "vm", "instant", "web", *LATEST, "--name", "web-now", "--wait")
    assert job["properties"]["status"] == "InProgress"
    assert job["properties"]["holdfast"]["progress"]["guestReadySeconds"] >= 0
    eventually(lambda: ours(typed, "web-now"), "the host reports it")
    assert ours(typed, "web-now")["runsFromVault"]["machine"] == "web"
    assert "instant restore of web" in typed("vm", "list")[1]
    refused(typed, "InstantRestoreUnderWay", "vm", "instant", "web", *LATEST, "--name", "web-now")
    refused(typed, "ResourceNotFound", "vm", "migrate", "web-now", "--to", "nowhere")
    (tmp_path / "disks").mkdir()
    yard.account("disks", tmp_path / "disks")
    yard.account("gone", tmp_path / "gone")
    code, out, err = typed("vm", "migrate", "web-now", "--to", "gone", "--wait")
    assert (code, "TargetUnavailable" in out + err) == (1, True)
    code, out, err = typed("vm", "migrate", "web-now", "--to", "disks", "--wait")
    assert code == 0, err
    eventually(
        lambda: asked(typed, "job", "show", job["name"])["properties"]["status"] == "Completed",
        "the machine's job is completed",
    )
    ended = asked(typed, "job", "show", job["name"])["properties"]
    assert ended["extendedInfo"]["propertyBag"]["Job Type"] == "Run from the vault"
    eventually(lambda: ours(typed, "web-now")["runsFromVault"] is None, "it is on its own")
    refused(typed, "InstantMachineNotServed", "vm", "migrate", "web-now", "--to", "disks")


def test_cancelling_removes_the_machine(typed: Type, yard: Farm) -> None:
    code, out, err = typed("vm", "instant", "web", *LATEST, "--wait")
    assert code == 0, err
    assert "holdfast vm migrate web-instant" in out
    eventually(lambda: ours(typed, "web-instant"), "the host reports it")
    job = ours(typed, "web-instant")["runsFromVault"]["jobId"]
    assert typed("job", "cancel", job)[0] == 0
    eventually(lambda: ours(typed, "web-instant") is None, "the machine is gone")
    eventually(
        lambda: asked(typed, "job", "show", job)["properties"]["status"] == "Cancelled",
        "its job is cancelled",
    )


def test_what_cannot_be_is_refused_before_any_job(typed: Type, yard: Farm) -> None:
    jobs = len(asked(typed, "job", "list"))
    refused(typed, "NotFound", "vm", "instant", "nobody", *LATEST)
    refused(typed, "RecoveryPointNotFound", "vm", "instant", "off", *LATEST)
    refused(typed, "RecoveryPointNotFound", "vm", "instant", "web", "--recovery-point", "1-2")
    refused(typed, "UserErrorTargetVmExists", "vm", "instant", "web", *LATEST, "--name", "off")
    refused(typed, "InvalidName", "vm", "instant", "web", *LATEST, "--name", "a/b")
    refused(typed, "ContainerNotFound", "vm", "instant", "web", *LATEST, "--container", "mars")
    refused(typed, "ContainerNotFound", "vm", "test", "web", *LATEST, "--container", "mars")
    refused(typed, "InstantMachineNotServed", "vm", "migrate", "off", "--to", "disks")
    refused(typed, "RestoreTestNotFound", "vm", "test", "web", *LATEST, "--show")
    address = f"{yard.spot.vault}/providers/Holdfast.Backup/virtualMachines/web/testRestore"
    for wrong in ({"timeoutSeconds": 0}, {"script": "x" * 40_000}):
        answer = yard.server.call("POST", address, {"properties": wrong})
        assert answer.status_code == 400, answer.text
    assert len(asked(typed, "job", "list")) == jobs


def test_the_report_of_a_test_is_kept_on_the_point(typed: Type, yard: Farm, tmp_path: Path) -> None:
    point = yard.back_up("web")
    words = ["vm", "test", "web", "--recovery-point", point, "--timeout", "120"]
    screen, script = tmp_path / "screen.png", tmp_path / "probe.sh"
    script.write_text("true\n")
    code, _, err = typed(*words, "--script", script, "--wait", "--screenshot", screen)
    assert code == 0, err
    assert screen.read_bytes() == PICTURE
    report = asked(typed, *words, "--show")["properties"]
    assert (report["passed"], report["machine"]) == (True, "web")
    assert yard.point("web", point)["holdfast"]["restoreTest"]["passed"] is True
    script.write_text("fail\n")
    code, _, err = typed(*words, "--script", script, "--wait")
    assert code == 1
    assert "RestoreTestFailed" in err
    kept = yard.point("web", point)["holdfast"]["restoreTest"]
    assert (kept["passed"], kept["exitCode"]) == (False, 3)
    assert "screenshot" not in kept
    assert yard.point("web", point)["holdfast"]["measured"]


def test_who_may_run_them() -> None:
    for name in ("instantRestore", "migrate", "testRestore"):
        action = f"Holdfast.Backup/vaults/virtualMachines/{name}/action"
        assert OPERATOR.grants(action)
        assert CONTRIBUTOR.grants(action)
        assert not READER.grants(action)


def test_a_policy_has_points_tested(yard: Farm) -> None:
    spot, server = yard.spot, yard.server
    address = f"{spot.vault}/backupPolicies/"
    policy = server.ok("GET", f"{address}EnhancedPolicy")["properties"]
    tested = {**policy, "restoreTest": {"everyDays": 7, "script": "fail"}}
    made = server.ok("PUT", f"{address}tested", {"properties": tested})
    assert made["properties"]["restoreTest"]["everyDays"] == 7
    spot.protect("off", "tested")
    point = yard.back_up("off")

    def report() -> Any:
        return yard.point("off", point)["holdfast"].get("restoreTest")

    eventually(report, "the point is tested")
    assert report()["exitCode"] == 3
    again = yard.back_up("off")
    tests = [one for one in spot.rows("backupJobs") if one["properties"]["operation"] == "Restore"]
    mine = [one for one in tests if one["properties"]["entityFriendlyName"] == "off"]
    assert len(mine) == 1
    assert "restoreTest" not in yard.point("off", again)["holdfast"]
    wrong = {**policy, "restoreTest": {"everyDays": 0}}
    answer = server.call("PUT", f"{address}wrong", {"properties": wrong})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "UserErrorInvalidPolicyInput"
