"""Virtual machines that hosts report: named, shown, and never two taken for one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.arm.schemas import shown
from holdfast.testing.live_server import LiveServer
from holdfast.testing.vm_place import GIB, VmPlace, machine


@pytest.fixture(scope="module")
def spot(live: LiveServer) -> VmPlace:
    return VmPlace(live, "machines")


def listed(spot: VmPlace) -> dict[str, dict[str, Any]]:
    group = spot.server.group(spot.group)
    rows = spot.server.ok("GET", f"{group}/providers/Microsoft.Compute/virtualMachines")["value"]
    return {row["name"]: row for row in rows}


def test_a_reported_machine_is_a_resource_at_its_vaults_place(spot: VmPlace) -> None:
    spot.report(machine("web", 1))
    shown = spot.show("WEB", **{"$expand": "instanceView"})
    assert shown["id"] == spot.resource("web")
    assert (shown["name"], shown["location"], shown["tags"]) == ("web", "local", {"team": "shop"})
    disks = shown["properties"]["storageProfile"]
    assert (disks["osDisk"]["name"], disks["osDisk"]["osType"]) == ("vda", "Linux")
    assert [(one["lun"], one["diskSizeGB"]) for one in disks["dataDisks"]] == [(0, 1)]
    codes = [one["code"] for one in shown["properties"]["instanceView"]["statuses"]]
    assert "PowerState/running" in codes
    ours = shown["properties"]["holdfast"]
    assert (ours["state"], ours["hosts"], ours["vaultId"]) == ("Present", ["hv1"], spot.vault)
    assert ours["disks"][0]["sizeBytes"] == 4 * GIB
    own = spot.server.ok("GET", f"{spot.vault}/providers/Holdfast.Backup/virtualMachines")
    assert [row["id"] for row in own["value"]] == [shown["id"]]


def test_a_doubled_slash_is_read_as_clients_write_it(spot: VmPlace) -> None:
    spot.report(machine("web", 1))
    assert spot.show("/web")["name"] == "web"


def test_what_is_reported_no_more_is_gone_and_a_new_name_is_followed(spot: VmPlace) -> None:
    spot.report(machine("web", 1), machine("db", 2))
    assert set(listed(spot)) == {"web", "db"}
    spot.report(machine("shop front (new)", 1))
    assert set(listed(spot)) == {"shop-front-new"}
    assert spot.ours("shop-front-new")["displayName"] == "shop front (new)"
    gone = spot.server.get(spot.resource("db"))
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "ResourceNotFound")


def test_machines_that_come_and_go_are_recorded_and_what_stays_is_not(spot: VmPlace) -> None:
    spot.report(machine("stays", 11))
    before = len(reports_recorded(spot))
    spot.report(machine("stays", 11))
    assert len(reports_recorded(spot)) == before
    spot.report(machine("stays", 11), machine("new", 12))
    spot.report(machine("new", 12))
    found = [entry["details"] for entry in reports_recorded(spot)[before:]]
    assert [(one["appeared"], one["gone"]) for one in found] == [(["new"], []), ([], ["stays"])]


def reports_recorded(spot: VmPlace) -> list[dict[str, Any]]:
    """Entries of the audit record about reports of machines, oldest first."""
    rows = spot.server.ok("GET", "/providers/Holdfast.Backup/audit", **{"$top": "1000"})["value"]
    found = [row["properties"] for row in reversed(rows)]
    return [one for one in found if one["operation"].endswith("agents/virtualMachines/write")]


def test_two_hosts_with_one_machine_are_not_taken_for_one(spot: VmPlace) -> None:
    other = spot.add_host("hv2")
    spot.report(machine("web", 1))
    spot.report(machine("web", 1), host=other)
    ours = spot.ours("web")
    assert (ours["state"], sorted(ours["hosts"])) == ("ClaimedTwice", ["hv1", "hv2"])
    assert "hv1, hv2" in ours["reason"]
    spot.report()
    assert (spot.ours("web")["state"], spot.ours("web")["hosts"]) == ("Present", ["hv2"])
    spot.report(host=other)
    assert listed(spot) == {}


def test_two_machines_of_one_name_keep_names_of_their_own(spot: VmPlace) -> None:
    other = spot.add_host("hv3")
    spot.report(machine("twin", 7))
    spot.report(machine("twin", 8), host=other)
    assert spot.ours("twin")["hosts"] == ["hv1"]
    assert spot.ours("twin-hv3")["hosts"] == ["hv3"]
    spot.report(machine("twin", 8), host=other)
    assert set(listed(spot)) == {"twin", "twin-hv3"}
    gone = f"{spot.vault}/backupFabrics/Azure/protectionContainers/Linux;hv3"
    spot.server.finish(spot.server.call("DELETE", gone))
    assert set(listed(spot)) == {"twin"}, "a host that is unregistered takes its reports along"
    spot.report()


@pytest.mark.parametrize(
    "report",
    [
        pytest.param([machine("a", 1), machine("b", 1)], id="two of one UUID"),
        pytest.param([machine("a", 1, uuid="not-a-uuid")], id="no UUID"),
        pytest.param([machine("", 1)], id="no name"),
        pytest.param([machine("a", 1, powerState="flying")], id="no state"),
        pytest.param(
            [machine("a", 1, disks=[{"lun": 0, "name": "x", "sizeBytes": 1}] * 2)], id="LUN twice"
        ),
        pytest.param(
            [machine("a", 1, disks=[{"lun": 0, "name": "x", "sizeBytes": -1}])], id="size"
        ),
        pytest.param([machine("a", 1, tags={"k": "v" * 5000})], id="long tag"),
    ],
)
def test_a_report_that_cannot_be_is_refused_whole(
    spot: VmPlace, report: list[dict[str, Any]]
) -> None:
    spot.report(machine("kept", 40))
    answer = spot.host.report(*report)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in ("InvalidBody", "InvalidInventory")
    assert set(listed(spot)) == {"kept"}
    spot.report()


def test_an_agent_reports_for_itself_only(spot: VmPlace) -> None:
    other = spot.add_host("hv4")
    headers = {"Authorization": f"Bearer {other.token()}"}
    address = f"{spot.host.address}/virtualMachines"
    body = {"virtualMachines": []}
    answer = spot.server.raw("PUT", address, json=body, headers=headers)
    assert answer.status_code == 403


def test_answers_are_of_the_kinds_that_are_written_down(spot: VmPlace) -> None:
    spot.report(machine("web", 1))
    group = f"{spot.server.group(spot.group)}/providers/Microsoft.Compute/virtualMachines"
    own = f"{spot.vault}/providers/Holdfast.Backup/virtualMachines"
    for address in (f"{group}/web", f"{own}/web"):
        answer = spot.server.get(address)
        msgspec.json.decode(answer.content, type=shown.Machine)
    for address in (group, own):
        answer = spot.server.get(address)
        msgspec.json.decode(answer.content, type=shown.Listed[shown.Machine])
    spot.report()
