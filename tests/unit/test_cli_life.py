"""What the commands of an item's and a vault's life send, and what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.main import run
from holdfast.cli.vault_life import immutability_text
from holdfast.testing.arm_responder import Responder, responder

SUB = "11111111-1111-4111-8111-111111111111"
GROUP = f"/subscriptions/{SUB}/resourceGroups/home"
VAULT = f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/office"
ITEM = f"{VAULT}/backupFabrics/Azure/protectionContainers/Linux;web1/protectedItems/FileFolder;docs"
PLACES = f"/subscriptions/{SUB}/providers/Microsoft.RecoveryServices/locations"
HERE = ["docs", "--container", "web1", "-g", "home", "-v", "office"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Responder]:
    """A responder, and a profile that is logged in to it; the item `docs`, changed by job j1."""
    for name in ("HOLDFAST_GROUP", "HOLDFAST_VAULT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLDFAST_CONFIG_DIR", str(tmp_path / "profile"))
    with responder(tmp_path) as found:
        found.on("GET /subscriptions", {"value": [{"subscriptionId": SUB}]})
        path = tmp_path / "admin.json"
        path.write_text(json.dumps({"client_id": "c1", "client_secret": "secret"}))
        words = ["login", "--server", found.url, "--ca", str(found.ca)]
        assert run([*words, "--credentials", str(path)]) == 0
        link = {"Azure-AsyncOperation": f"{found.url}{ITEM}/operationsStatus/o1?api-version=1"}
        found.on(f"PUT {ITEM}", None, 202, link)
        found.on(f"GET {VAULT}/backupOperations/o1", {"properties": {"jobId": "j1"}})
        yield found


def job(**result: Any) -> dict[str, Any]:
    return {"name": "j1", "properties": {"status": "Completed", "holdfast": {"result": result}}}


def item(**more: Any) -> dict[str, Any]:
    shown = {"friendlyName": "docs", "protectionState": "ProtectionStopped", "holdfast": {}}
    return {"name": "FileFolder;docs", "properties": {**shown, **more}}


def sent(server: Responder) -> dict[str, Any]:
    found: dict[str, Any] = server.requests(f"PUT {ITEM}")[-1].body["properties"]
    return found


@pytest.mark.parametrize(
    ("flag", "state"),
    [
        ([], "ProtectionStopped"),
        (["--keep-policy"], "BackupsSuspended"),
        (["--retain-as-per-policy"], "BackupsSuspended"),
    ],
)
def test_stopping(server: Responder, flag: list[str], state: str) -> None:
    server.on(f"GET {VAULT}/backupJobs/j1", job())
    server.on(f"GET {ITEM}", item())
    assert run(["item", "disable", *HERE, *flag]) == 0
    assert sent(server)["protectionState"] == state
    assert "isRehydrate" not in sent(server)
    assert run(["item", "disable", *HERE, *flag, "--delete-data", "--yes"]) == (2 if flag else 1)


def test_undeleting(server: Responder, capsys: Capture) -> None:
    server.on(f"GET {VAULT}/backupJobs/j1", job())
    server.on(f"GET {ITEM}", item())
    assert run(["item", "undelete", *HERE]) == 0
    asked = sent(server)
    assert (asked["isRehydrate"], asked["protectionState"]) == (True, "ProtectionStopped")
    assert "ProtectionStopped" in capsys.readouterr().out


def test_resuming_says_what_the_policy_touches(server: Responder, capsys: Capture) -> None:
    counts = {"recoveryPoints": 3, "affected": 2, "expire": 2, "endSooner": 0, "endLater": 0}
    server.on(f"GET {VAULT}/backupJobs/j1", job(retentionChange={**counts, "dueAnyway": 0}))
    server.on(f"GET {ITEM}", item(protectionState="Protected"))
    assert run(["item", "resume", *HERE]) == 2, "a policy is needed"
    assert run(["item", "resume", *HERE, "--policy", "nightly"]) == 0
    assert sent(server)["policyId"] == f"{VAULT}/backupPolicies/nightly"
    assert "2 of 3 recovery points affected" in capsys.readouterr().out
    assert run(["item", "resume", *HERE, "--policy", "nightly", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["properties"]["holdfast"]["retentionChange"]["expire"] == 2


def test_the_list_shows_when_deleted_data_goes(server: Responder, capsys: Capture) -> None:
    gone = item(isScheduledForDeferredDelete=True, deferredDeleteTimeInUTC="2026-03-16T12:00:00Z")
    server.on(f"GET {VAULT}/backupProtectedItems", {"value": [gone, item()]})
    assert run(["item", "list", "-g", "home", "-v", "office"]) == 0
    deleted, stopped = capsys.readouterr().out.splitlines()[2:]
    assert "SoftDeleted" in deleted and deleted.endswith("2026-03-16 12:00:00")
    assert stopped.split() == ["docs", "ProtectionStopped"]


def test_setting_soft_delete(server: Responder, capsys: Capture) -> None:
    settings = {"softDeleteState": "AlwaysON", "softDeleteRetentionPeriodInDays": 30}
    shown = {"securitySettings": {"softDeleteSettings": settings}, "holdfast": {}}
    body = {"id": VAULT, "name": "office", "location": "local", "properties": shown}
    server.on(f"PATCH {VAULT}", body)
    words = ["vault", "update", "office", "-g", "home"]
    assert run([*words, "--soft-delete", "always-on", "--soft-delete-days", "30"]) == 0
    asked = server.requests(f"PATCH {VAULT}")[0].body["properties"]["securitySettings"]
    assert asked == {"softDeleteSettings": settings}
    assert run([*words, "--soft-delete", "sometimes"]) == 2
    assert run(words) == 2
    server.on(f"GET {VAULT}", body)
    assert run(["vault", "show", "office", "-g", "home"]) == 0
    assert "soft delete: 30 days, always on" in capsys.readouterr().out


def test_setting_immutability(server: Responder, capsys: Capture) -> None:
    def holding(state: str) -> dict[str, Any]:
        shown = {"securitySettings": {"immutabilitySettings": {"state": state}}, "holdfast": {}}
        return {"id": VAULT, "name": "office", "location": "local", "properties": shown}

    server.on(f"PATCH {VAULT}", holding("Locked"))
    words = ["vault", "update", "office", "-g", "home", "--immutability"]
    assert run([*words, "unlocked"]) == 0
    assert run([*words, "locked"]) == 2, "nobody is there to be asked"
    assert "Nobody can undo that" in capsys.readouterr().err
    assert run([*words, "locked", "--yes", "--soft-delete-days", "30"]) == 0
    asked = [one.body["properties"] for one in server.requests(f"PATCH {VAULT}")]
    assert [one["securitySettings"]["immutabilitySettings"]["state"] for one in asked] == [
        "Unlocked", "Locked",
    ]  # fmt: skip
    assert asked[1]["securitySettings"]["softDeleteSettings"]
    server.on(f"GET {VAULT}", holding("Locked"))
    assert run(["vault", "show", "office", "-g", "home"]) == 0
    said = capsys.readouterr().out
    assert "immutability: on, locked for ever: no recovery point goes before it expires" in said
    assert immutability_text(holding("Disabled")) == "off"
    assert immutability_text(holding("Unlocked")).startswith("on, unlocked, can be turned off")


def test_a_plan_says_that_the_change_is_refused(
    server: Responder, tmp_path: Path, capsys: Capture
) -> None:
    counts = {"recoveryPoints": 3, "affected": 1, "expire": 1, "endSooner": 0, "endLater": 0}
    told = {"code": "UserErrorVaultImmutable", "message": "daily 30 to 7 days"}
    body = {"properties": {**counts, "dueAnyway": 0, "refused": told}, "value": []}
    server.on(f"POST {VAULT}/providers/Holdfast.Backup/planPolicyChange", body)
    file = tmp_path / "policy.json"
    file.write_text("{}")
    where = ["-g", "home", "-v", "office"]
    assert run(["policy", "set", "nightly", "--file", str(file), "--plan", *where]) == 0
    said = capsys.readouterr().out
    assert "would be refused (UserErrorVaultImmutable): daily 30 to 7 days" in said
    assert "to apply it" not in said


def deleted_vault(name: str, number: int) -> dict[str, Any]:
    held = f"/subscriptions/{SUB}/resourceGroups/home/providers/Microsoft.RecoveryServices/vaults"
    times = {
        "vaultDeletionTime": "2026-03-02T12:00:00Z",
        "purgeAt": f"2026-03-{15 + number}T12:00:00Z",
    }
    guid = f"00000000-0000-4000-8000-00000000000{number}"
    return {
        "id": f"{PLACES}/local/deletedVaults/{guid}",
        "name": guid,
        "properties": {"vaultId": f"{held}/{name}", **times},
    }


def test_deleted_vaults(server: Responder, capsys: Capture) -> None:
    server.on(f"GET /subscriptions/{SUB}/locations", {"value": [{"name": "local"}]})
    rows = [deleted_vault("office", 1), deleted_vault("twice", 3), deleted_vault("twice", 2)]
    server.on(f"GET {PLACES}/local/deletedVaults", {"value": rows})
    assert run(["vault", "list-deleted"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["office", "twice", "twice"]
    assert [line.split()[-1][-1] for line in lines] == ["1", "2", "3"], "the next to go first"
    assert run(["vault", "undelete", "twice"]) == 1
    assert "DeletedVaultAmbiguous" in capsys.readouterr().err
    assert run(["vault", "undelete", "nothing"]) == 1
    assert "DeletedVaultNotFound" in capsys.readouterr().err
    server.on(f"POST {rows[0]['id']}/undelete", None, 202)
    server.on(f"GET {VAULT}", {"id": VAULT, "name": "office"})
    assert run(["vault", "undelete", "OFFICE"]) == 0
    asked = server.requests(f"POST {rows[0]['id']}/undelete")[0].body["properties"]
    home = f"/subscriptions/{SUB}/resourceGroups"
    assert asked == {"recoveryResourceGroupId": f"{home}/home"}
    assert "holdfast item list -g home -v office" in capsys.readouterr().out
    server.on(f"POST {rows[2]['id']}/undelete", None, 202)
    moved = VAULT.replace("/home/", "/other/").replace("/office", "/twice")
    server.on(f"GET {moved}", {"id": moved, "name": "twice"})
    words = ["vault", "undelete", rows[2]["name"], "--recovery-group", "other", "-o", "json"]
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["id"] == moved
    asked = server.requests(f"POST {rows[2]['id']}/undelete")[0].body["properties"]
    assert asked == {"recoveryResourceGroupId": f"{home}/other"}
