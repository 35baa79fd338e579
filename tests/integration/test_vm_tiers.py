"""Which tiers a machine's recovery points are in, from request to answer: a real server, the real
agent program, machines in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.errors import SourceError
from holdfast.testing.live_server import LiveServer
from holdfast.testing.vm_farm import DATA, WEB, Farm, vm_farm
from holdfast.testing.vm_typing import Type, typist
from holdfast.testing.wait import eventually

VAULT = {"type": "HardenedRP", "status": "Valid"}


def instant(status: str) -> dict[str, str]:
    return {"type": "InstantRP", "status": status}


@pytest.fixture(scope="module")
def field(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    with vm_farm(live, tmp_path_factory.mktemp("tiers"), "tiers") as made:
        made.spot.protect("web")
        made.vms.keeps = True
        yield made


@pytest.fixture
def typed(field: Farm, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    return typist(field, "tiers", monkeypatch.setenv, capfd.readouterr)


def listed(field: Farm) -> list[dict[str, Any]]:
    found = field.server.ok("GET", f"{field.spot.item('web')}/recoveryPoints")["value"]
    assert isinstance(found, list)
    return found


def look_again(field: Farm) -> None:
    """Ask the hosts to report anew."""
    address = f"{field.spot.vault}/backupFabrics/Azure/refreshContainers"
    assert field.server.call("POST", address).status_code == 202


def shown(field: Farm, typed: Type, point: str) -> str:
    """What a user is shown of a point."""
    names = f"iaasvmcontainerv2;{field.spot.group};web"
    item = ("--item", f"VM;{names}", "--container", f"IaasVMContainer;{names}")
    code, out, err = typed("recovery-point", "show", "--recovery-point", point, *item)
    assert code == 0, err
    return out


def tiers(field: Farm, point: str) -> list[dict[str, str]]:
    """As its own answer says, and the list the same by now; nothing while they differ."""
    told = field.point("web", point)["recoveryPointTierDetails"]
    (row,) = [one for one in listed(field) if one["name"] == point]
    return list(told) if row["properties"]["recoveryPointTierDetails"] == told else []


def test_a_point_with_a_local_copy_is_in_both_tiers_until_that_goes(
    field: Farm, typed: Type
) -> None:
    point = field.back_up("web")
    (task,) = field.vms.taken
    assert getattr(task, "instant_days", None) == 2  # of the DefaultPolicy
    eventually(lambda: tiers(field, point) == [instant("Valid"), VAULT], "its host has told")
    out = shown(field, typed, point)
    assert "snapshot, vault" in out
    assert "snapshot: beside the machine's disks until 2099-01-01" in out
    field.vms.kept.clear()
    look_again(field)
    eventually(lambda: tiers(field, point) == [instant("Deleted"), VAULT], "it is gone")
    assert "snapshot: gone" in shown(field, typed, point)


def test_a_point_without_one_says_why(field: Farm, typed: Type) -> None:
    field.vms.keeps = False
    point = field.back_up("web")
    field.vms.keeps = True
    assert tiers(field, point) == [VAULT]
    told = field.point("web", point)["holdfast"]["measured"]["instant"]
    assert (told["kept"], told["reason"]) == (False, "its file system cannot share blocks")
    reason = "snapshot: none, for its file system cannot share blocks"
    assert reason in shown(field, typed, point)


def test_a_copy_nobody_named_is_known_by_its_job(field: Farm) -> None:
    """The agent died between the commit and its note of it."""
    point = field.back_up("web")
    eventually(lambda: tiers(field, point)[0] == instant("Valid"), "its host has told")
    held = field.vms.kept[WEB]
    field.vms.kept[WEB] = [msgspec.structs.replace(one, point="") for one in held]
    look_again(field)
    field.back_up("web")
    eventually(lambda: tiers(field, point)[0] == instant("Valid"), "it is still there")


def test_a_point_outlives_a_transfer_that_fails_and_is_restored(
    field: Farm, typed: Type, tmp_path: Path
) -> None:
    before = {row["name"] for row in listed(field)}
    field.vms.refuses = SourceError("the machine is lost", code="MachineLost")
    job = field.job(field.start_backup("web"))
    field.vms.refuses = None
    assert job["status"] == "Failed"
    token = field.vms.kept[WEB][-1].token
    eventually(lambda: token in {row["name"] for row in listed(field)}, "it is listed")
    assert {row["name"] for row in listed(field)} == before | {token}
    assert listed(field)[0]["name"] == token, "newest first"
    told = field.point("web", token)
    assert told["recoveryPointTierDetails"] == [instant("Valid")]
    assert told["recoveryPointProperties"]["expiryTime"].startswith("2099-01-01")
    assert told["recoveryPointDiskConfiguration"]["numberOfDisksIncludedInBackup"] == 2
    assert "snapshot: beside" in shown(field, typed, token)
    field.vms.machines[WEB].disks[0] = b"other"
    account = field.account("tiers1", tmp_path)
    done = field.job(field.restore("web", token, "RestoreDisks", storageAccountId=account))
    assert done["status"] == "Completed", done
    assert (tmp_path / "disk0").read_bytes() == DATA
    assert getattr(field.vms.taken[-1], "local_token", "") == token
    new = field.spot.resource("web-copy")
    assert field.job(field.restore("web", token, "AlternateLocation", targetVirtualMachineId=new))
    code, _, err = typed("vm", "instant", "web", "--recovery-point", token)
    assert (code != 0, "RecoveryPointNotInVault" in err) == (True, True), err
    assert field.point("web", "latest")["recoveryPointTierDetails"][-1] == VAULT
    field.vms.machines[WEB].disks[0] = DATA


def test_a_copy_is_a_point_before_it_is_in_the_vault_and_stays_the_same_one(field: Farm) -> None:
    before = len(field.vms.kept[WEB])
    field.vms.hold.clear()
    answer = field.start_backup("web")
    eventually(lambda: len(field.vms.kept[WEB]) > before, "the snapshot stands")
    token = field.vms.kept[WEB][-1].token
    eventually(lambda: token in {row["name"] for row in listed(field)}, "it is a point")
    assert field.job(answer, ended=False)["status"] == "InProgress"
    field.vms.hold.set()
    point = field.job(answer)["holdfast"]["result"]["recoveryPointId"]
    eventually(lambda: tiers(field, point) == [instant("Valid"), VAULT], "in both")
    address = f"{field.spot.item('web')}/recoveryPoints/{token}"
    assert field.server.ok("GET", address)["name"] == point
    assert token not in {row["name"] for row in listed(field)}
