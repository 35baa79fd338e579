"""Machines that come and go leave a job each, as Azure's containers do."""

from __future__ import annotations

from datetime import UTC, datetime

from holdfast.testing.live_server import LiveServer
from holdfast.testing.scripted_agent import ScriptedAgent


def test_a_machines_coming_and_going_are_jobs(live: LiveServer) -> None:
    vault = live.make_vault("comings")
    ScriptedAgent(live, vault, "web7", datetime.now(UTC))
    container = f"{vault}/backupFabrics/Azure/protectionContainers/Linux;web7"
    assert live.call("DELETE", container).status_code == 202
    asked = {"$filter": "backupManagementType eq 'MAB'"}
    rows = live.ok("GET", f"{vault}/backupJobs", **asked)["value"]
    shown = [row["properties"] for row in rows]
    assert [one["operation"] for one in shown] == ["UnRegister", "Register"]
    for row, one in zip(rows, shown, strict=True):
        assert (one["status"], one["jobType"]) == ("Completed", "MabJob")
        assert (one["entityFriendlyName"], one["mabServerName"]) == ("web7", "web7")
        full = live.ok("GET", row["id"])["properties"]
        assert [task["taskId"] for task in full["extendedInfo"]["tasksList"]] == [one["operation"]]
    by_word = {"$filter": "operation eq 'unregister'"}
    (only,) = live.ok("GET", f"{vault}/backupJobs", **by_word)["value"]
    assert only["name"] == rows[0]["name"]
    events = live.ok("GET", only["id"])["properties"]["holdfast"]["history"]
    assert "administrator" in events[0]["message"], "who did it"
