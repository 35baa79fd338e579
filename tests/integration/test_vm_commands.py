"""``holdfast vm`` and ``holdfast storage-account`` as a user types them, against a real server with
a host whose machines are in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.live_server import LiveServer
from holdfast.testing.vm_farm import DATA, OFF, SYSTEM, Farm, vm_farm
from holdfast.testing.vm_typing import Type, asked, typist
from holdfast.testing.wait import eventually


@pytest.fixture(scope="module")
def yard(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with vm_farm(live, tmp_path_factory.mktemp("yard"), "yard") as made:
        yield made


@pytest.fixture
def typed(yard: Farm, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    return typist(yard, "yard", monkeypatch.setenv, capfd.readouterr)


def test_from_the_first_look_to_a_restored_disk(typed: Type, yard: Farm, tmp_path: Path) -> None:
    listed = asked(typed, "vm", "list")
    assert {row["name"] for row in listed} == {"web", "off"}
    code, out, _ = typed("vm", "list")
    assert code == 0
    assert "NotProtected" in out
    protected = asked(
        typed, "vm", "protect", "web", "--policy", "EnhancedPolicy", "--at-least", "crash"
    )
    assert protected["properties"]["policyName"] == "EnhancedPolicy"
    ended = asked(typed, "vm", "backup", "web", "--wait")
    assert ended["properties"]["status"] == "Completed"
    code, out, _ = typed("vm", "show", "web")
    assert code == 0
    assert "AppConsistent" in out
    assert "disk-1" in out
    words = ["storage-account", "create", "yarddisks", "--container", "farm", "--path", tmp_path]
    made = asked(typed, *words)
    assert made["properties"]["holdfast"]["path"] == str(tmp_path)
    rows = asked(typed, "storage-account", "list")
    assert [row["name"] for row in rows] == ["yarddisks"]
    restore = ["vm", "restore", "web", "--recovery-point", "latest"]
    code, out, err = typed(*restore, "--disks-to", "yarddisks", "--format", "raw", "--wait")
    assert code == 0, err
    assert (tmp_path / "disk0").read_bytes() == DATA
    assert typed("storage-account", "remove", "yarddisks")[0] == 0
    assert asked(typed, "storage-account", "list") == []


def test_as_a_new_machine_and_in_place(typed: Type, yard: Farm) -> None:
    asked(typed, "vm", "protect", "off", "--policy", "DefaultPolicy")
    assert asked(typed, "vm", "backup", "off", "--wait")["properties"]["status"] == "Completed"
    restore = ["vm", "restore", "off", "--recovery-point", "latest"]
    new = asked(typed, *restore, "--new", "off-test", "--network", "none", "--wait")
    assert new["properties"]["status"] == "Completed"
    assert getattr(yard.vms.taken[-1], "target").network == "none"  # noqa: B009
    yard.vms.machines[OFF].disks[-1] = b"broken"
    code, _, err = typed(*restore, "--replace")
    assert (code, "--yes" in err) == (2, True), "it asks, and nobody is there to answer"
    assert asked(typed, *restore, "--replace", "--disk", "-1", "--yes", "--wait")
    assert yard.vms.machines[OFF].disks[-1] == SYSTEM


def test_stop_delete_undelete_resume(typed: Type, yard: Farm) -> None:
    asked(typed, "vm", "protect", "off", "--policy", "DefaultPolicy", "--exclude-disk", "0")
    kept = ("--retain-until", "2031-02-03", "--wait")
    assert asked(typed, "vm", "backup", "off", *kept)["properties"]["status"] == "Completed"
    assert asked(typed, "vm", "backup", "off", "--wait")["properties"]["status"] == "Completed"
    names = f"iaasvmcontainerv2;{yard.spot.group};off"
    whole = ["--container", f"IaasVMContainer;{names}"]
    points = asked(typed, "recovery-point", "list", "--item", f"VM;{names}", *whole)
    lives = [point["properties"]["recoveryPointProperties"]["expiryTime"] for point in points]
    assert any(str(one).startswith("2031-02-03") for one in lives), "of one that is not the latest"
    suspended = asked(typed, "vm", "disable", "off", "--retain-as-per-policy")
    assert suspended["properties"]["protectionState"] == "BackupsSuspended"
    stopped = asked(typed, "vm", "disable", "off")
    assert stopped["properties"]["protectionState"] == "ProtectionStopped"
    code, _, err = typed("vm", "disable", "off", "--delete-data", "--yes")
    assert code == 0, err
    assert yard.spot.ours("off")["protectionState"] == "SoftDeleted"
    back = asked(typed, "vm", "undelete", "off")
    assert back["properties"]["isScheduledForDeferredDelete"] is False
    resumed = asked(typed, "vm", "protect", "off", "--policy", "DefaultPolicy", "--all-disks")
    assert resumed["properties"]["extendedProperties"] == {"diskExclusionProperties": None}
    items = asked(typed, "item", "list")
    assert "off" in {row["properties"]["friendlyName"] for row in items}
    assert "(virtual machine)" in typed("item", "show", f"VM;{names}", *whole)[1]
    assert typed("container", "list")[0] == typed("item", "list")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["vm", "restore", "web", "--recovery-point", "latest"],
        ["vm", "restore", "web", "--recovery-point", "latest", "--new", "x", "--replace"],
        ["vm", "restore", "web", "--recovery-point", "latest", "--new", "x", "--format", "raw"],
        ["vm", "restore", "web", "--recovery-point", "latest", "--replace", "--network", "none"],
        ["vm", "restore", "web", "--recovery-point", "latest", "--new", "x", "--no-safety-point"],
        ["vm", "protect", "web"],
        ["vm", "protect", "web", "--policy", "DefaultPolicy", "--exclude-disk", "-1"],
        ["vm", "protect", "web", "--policy", "P", "--exclude-disk", "1", "--all-disks"],
        ["vm", "protect", "web", "--policy", "P", "--consistency", "perfect"],
        ["storage-account", "create", "x1y2"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(typed: Type, words: list[str]) -> None:
    code, _, err = typed(*words)
    assert (code, "InvalidUsage" in err) == (2, True)


def test_errors_of_the_server_come_with_their_hint(typed: Type, yard: Farm) -> None:
    asked(typed, "vm", "protect", "web", "--policy", "EnhancedPolicy")
    asked(typed, "vm", "backup", "web", "--wait")
    code, _, err = typed("vm", "show", "nobody")
    assert (code, "ResourceNotFound" in err) == (1, True)
    code, _, err = typed("vm", "backup", "nobody")
    assert code == 1
    assert "what to do" in err
    code, _, err = typed("vm", "restore", "web", "--recovery-point", "nope", "--new", "x1")
    assert (code, "RecoveryPointNotFound" in err) == (1, True)
    yard.vms.machines["11111111-0000-4000-8000-000000000001"].power = "running"
    eventually(lambda: yard.spot.ours("web")["powerState"] == "running", "it is seen running")
    words = ["vm", "restore", "web", "--recovery-point", "latest", "--replace", "--yes"]
    code, _, err = typed(*words)
    assert (code, "UserErrorVmNotShutDown" in err) == (1, True)


def test_files_of_a_point(typed: Type, yard: Farm, tmp_path: Path) -> None:
    asked(typed, "vm", "protect", "web", "--policy", "EnhancedPolicy")
    assert asked(typed, "vm", "backup", "web", "--wait")["properties"]["status"] == "Completed"
    at = ("--recovery-point", "latest")
    code, out, _ = typed("vm", "browse", "web", *at)
    assert code == 0 and "/osdisk-p1" in out and "ext4" in out
    assert [row["name"] for row in asked(typed, "vm", "browse", "web", "/osdisk-p1", *at)] == [
        "a",
        "b",
    ]
    code, _, err = typed("vm", "browse", "web", "/osdisk-p1/none", *at)
    assert code == 1 and "PathNotFound" in err
    words = ["vm", "restore-files", "web", *at, "--to", tmp_path, "--wait"]
    words += ["--path", "/osdisk-p1/a", "--path", "/osdisk-p1/b", "-o", "json"]
    code, out, err = typed(*words)
    assert code == 3, err
    job = json.loads(out)
    assert job["properties"]["status"] == "CompletedWithWarnings"
    assert (tmp_path / "osdisk-p1/b").read_text() == "/osdisk-p1/b"
    code, out, _ = typed("job", "show", job["name"])
    assert "ModeNotRestored" in out
    (tmp_path / "osdisk-p1/b").write_text("kept")
    typed(*words, "--conflict", "skip")
    assert (tmp_path / "osdisk-p1/b").read_text() == "kept"
    for code, _, err in (
        typed("vm", "browse", "web", *at, "--on-container", "nowhere"),
        typed(*words, "--to-container", "nowhere"),
    ):
        assert code == 1 and "ContainerNotFound" in err
    told = [one["properties"]["holdfast"] for one in yard.spot.rows("backupJobs")]
    lists = [one["result"] for one in told if one["kind"] == "browse"]
    assert lists
    assert not any("entries" in one for one in lists), "a list is for who asked for it"


def test_what_cannot_be_asked_of_files(yard: Farm) -> None:
    point = f"{yard.spot.item('web')}/recoveryPoints/latest/providers/Holdfast.Backup"

    def refused(verb: str, **properties: Any) -> str:
        answer = yard.server.call("POST", f"{point}/{verb}", {"properties": properties})
        assert 400 <= answer.status_code < 500, answer.text
        return str(answer.json()["error"]["code"])

    assert refused("listFiles", path="etc") == "InvalidPath"
    assert refused("listFiles", path="/x", top=0) == "InvalidParameter"
    good = {"paths": ["/osdisk-p1/etc"], "targetDirectory": "/tmp/x"}
    for changed, code in (
        ({"paths": []}, "InvalidPath"),
        ({"paths": ["etc"]}, "InvalidPath"),
        ({"targetDirectory": "x"}, "InvalidTarget"),
        ({"targetDirectory": "/" + "x" * 20_000}, "InvalidTarget"),
        ({"conflict": "ask"}, "InvalidConflict"),
        ({"targetContainerName": "nowhere"}, "ContainerNotFound"),
    ):
        assert refused("restoreFiles", **{**good, **changed}) == code, changed


def test_no_appliance_is_built_in_a_folder_that_is_no_agent_s(typed: Type, tmp_path: Path) -> None:
    code, _, err = typed("agent", "appliance", "--data", tmp_path)
    assert code == 1 and "AgentNotEnrolled" in err
    assert list(tmp_path.iterdir()) == []
