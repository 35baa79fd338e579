"""What the command line sends, prints and returns, against a responder over real TLS."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli import follow, show
from holdfast.cli.api import unreachable
from holdfast.cli.main import run
from holdfast.cli.profile import load_profile
from holdfast.testing.arm_responder import TOKEN, Responder, responder

SUB = "11111111-1111-1111-1111-111111111111"
GROUP = f"/subscriptions/{SUB}/resourceGroups/home"
VAULT = f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/office"
ITEM = f"{VAULT}/backupFabrics/Azure/protectionContainers/Linux;web1/protectedItems/FileFolder;docs"
JOB = f"{VAULT}/backupJobs/j1"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA and a server certificate for all tests here."""
    return tmp_path_factory.mktemp("authority")


@pytest.fixture
def server(authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Responder]:
    """A responder, and a profile that is logged in to it."""
    for name in ("HOLDFAST_GROUP", "HOLDFAST_VAULT", "HOLDFAST_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLDFAST_CONFIG_DIR", str(tmp_path / "profile"))
    with responder(authority) as found:
        found.on("GET /subscriptions", {"value": [{"subscriptionId": SUB}]})
        assert log_in(found, tmp_path) == 0
        found.asked.clear()
        yield found


def log_in(server: Responder, folder: Path, secret: str = "secret", url: str = "") -> int:
    path = folder / "admin.json"
    path.write_text(json.dumps({"client_id": "c1", "client_secret": secret}))
    words = ["login", "--server", url or server.url, "--ca", str(server.ca)]
    return run([*words, "--credentials", str(path)])


def at_vault(*words: str) -> list[str]:
    return [*words, "-g", "home", "-v", "office"]


def job(status: str = "Completed", **more: Any) -> dict[str, Any]:
    ours = {"progress": {}, "detail": "", "findings": [], "findingsCount": 0, "history": []}
    properties = {
        "operation": "Backup",
        "entityFriendlyName": "docs",
        "status": status,
        "duration": "PT12.345S",
        "holdfast": {**ours, "result": {}, **more},
    }
    return {"name": "j1", "properties": properties}


def start(server: Responder) -> None:
    """Answer `backup now` with job j1."""
    link = {"Azure-AsyncOperation": f"{server.url}{ITEM}/operationsStatus/o1?api-version=1"}
    server.on(f"POST {ITEM}/backup", None, 202, link)
    server.on(f"GET {VAULT}/backupOperations/o1", {"properties": {"jobId": "j1"}})


BACKUP = at_vault("backup", "now", "--item", "docs", "--container", "web1")


# logging in


def test_the_profile_and_the_token_are_private_and_the_token_is_reused(
    server: Responder, tmp_path: Path
) -> None:
    folder = tmp_path / "profile"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    server.on(
        f"GET /subscriptions/{SUB}/providers/Microsoft.RecoveryServices/vaults", {"value": []}
    )
    assert run(["vault", "list"]) == run(["vault", "list"]) == 0
    assert len(server.requests(f"POST {TOKEN}")) <= 1
    for name in ("profile.json", "token.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    sent = server.asked[-1]
    assert sent.headers["authorization"].startswith("Bearer token-")
    assert sent.query["api-version"]


def test_a_refused_token_is_renewed_once(server: Responder, capsys: Capture) -> None:
    what = f"GET {VAULT}/backupPolicies"
    server.refuse(what, 401, "ExpiredAuthenticationToken", "the token has expired")
    server.on(what, {"value": []})
    assert run(at_vault("policy", "list")) == 0
    server.replies[what] = []
    server.refuse(what, 401, "InvalidAuthenticationToken", "no")
    capsys.readouterr()
    assert run(at_vault("policy", "list")) == 1
    assert "what to do: log in again: holdfast login" in capsys.readouterr().err


def test_a_wrong_secret_is_said(server: Responder, tmp_path: Path, capsys: Capture) -> None:
    before = load_profile()
    assert log_in(server, tmp_path, "wrong") == 1
    shown = capsys.readouterr().err
    assert shown == "error: wrong secret\ncode: invalid_client\nwhat to do: ask for a new one\n"
    assert load_profile() == before


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"client_id": "a"}'])
def test_a_credentials_file_that_is_none(
    server: Responder, tmp_path: Path, capsys: Capture, text: str
) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    words = ["login", "--server", server.url, "--ca", str(server.ca)]
    assert run([*words, "--credentials", str(path)]) == 1
    assert "CredentialsInvalid" in capsys.readouterr().err
    assert run([*words, "--credentials", str(tmp_path / "none")]) == 1
    assert "FileUnreadable" in capsys.readouterr().err
    assert run([*words, "--client-id", "c1"]) == 2
    assert run(["login", "--server", "http://x", "--ca", "x"]) == 2


def test_without_a_profile_or_with_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HOLDFAST_CONFIG_DIR", str(tmp_path))
    assert run(["vault", "list"]) == 1
    assert "NotLoggedIn" in capsys.readouterr().err
    (tmp_path / "profile.json").write_text('{"server": 1')
    assert run(["vault", "list"]) == 1
    assert "ProfileDamaged" in capsys.readouterr().err


# servers that do not answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nobody_listens(server: Responder, tmp_path: Path, capsys: Capture) -> None:
    assert log_in(server, tmp_path, url=f"https://127.0.0.1:{free_port()}") == 1
    shown = capsys.readouterr().err
    assert "code: ServerUnreachable" in shown and "holdfast server start" in shown


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("[Errno -2] Name or service not known", "ServerUnreachable", "host name"),
        ("Temporary failure in name resolution", "ServerUnreachable", "host name"),
        ("timed out", "ServerUnreachable", "firewall"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "ServerUnreachable", "speak TLS"),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired", "ServerUntrusted", "renews"),
        ("CERTIFICATE_VERIFY_FAILED: Hostname mismatch", "ServerUntrusted", "does not name"),
        ("CERTIFICATE_VERIFY_FAILED: unable to get issuer", "ServerUntrusted", "ca.pem"),
        ("", "ServerUnreachable", "address is right"),
    ],
)
def test_each_way_of_not_answering_has_its_hint(text: str, code: str, hint: str) -> None:
    error = unreachable("https://x", OSError(text))
    assert error.code == code and hint in error.hint


def test_an_address_that_is_none(server: Responder, tmp_path: Path, capsys: Capture) -> None:
    assert log_in(server, tmp_path, url="https://x:99999999") == 1
    shown = capsys.readouterr().err
    assert "code: Invalid" in shown or "code: ServerUnreachable" in shown


def test_another_ca_a_name_not_in_the_certificate_and_no_tls(
    server: Responder, tmp_path: Path, capsys: Capture
) -> None:
    port = server.url.rpartition(":")[2]
    assert log_in(server, tmp_path, url=f"https://127.0.0.2:{port}") == 1
    capsys.readouterr()
    with responder(tmp_path / "other") as other:
        other.ca = server.ca
        assert log_in(other, tmp_path) == 1
    shown = capsys.readouterr().err
    assert "code: ServerUntrusted" in shown and "log in again with its ca.pem" in shown
    server.ca = tmp_path / "empty.pem"
    server.ca.write_text("nothing")
    assert log_in(server, tmp_path) == 1
    assert "InvalidCa" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "body"),
    [(502, "<html>bad gateway</html>"), (500, ""), (418, [1]), (404, {"error": 1})],
)
def test_answers_of_something_else(
    server: Responder, capsys: Capture, status: int, body: Any
) -> None:
    server.on(f"GET {VAULT}/backupPolicies", body, status)
    assert run(at_vault("policy", "list")) == 1
    shown = capsys.readouterr().err
    assert f"answered {status}" in shown and "code: ServerFailed" in shown


def test_an_error_of_the_server_is_shown_as_it_says_it(server: Responder, capsys: Capture) -> None:
    server.refuse(f"GET {VAULT}/backupPolicies", 403, "AuthorizationFailed", "no", "ask ann")
    assert run(at_vault("policy", "list")) == 1
    assert capsys.readouterr().err == "error: no\ncode: AuthorizationFailed\nwhat to do: ask ann\n"


# lists, tables, JSON


def test_json_is_the_body_and_lists_follow_links_to_our_server_only(
    server: Responder, capsys: Capture
) -> None:
    rows = [{"name": f"p{number}", "properties": {}} for number in range(3)]
    link = "https://elsewhere.example/subscriptions/x/next?page=2&api-version=1"
    server.on(f"GET {VAULT}/backupPolicies", {"value": rows[:2], "nextLink": link})
    server.on("GET /subscriptions/x/next", {"value": rows[2:]})
    assert run(at_vault("policy", "list", "-o", "json")) == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert server.asked[-1].query == {"page": ["2"], "api-version": ["1"]}
    body = {"name": "café", "properties": {"a": [1, None, {"b": True}]}}
    server.on(f"GET {VAULT}/backupPolicies/p", body)
    assert run(at_vault("policy", "show", "p", "-o", "json")) == 0
    assert json.loads(capsys.readouterr().out) == body


def test_tables_cannot_be_broken_by_what_they_show(capsys: Capture) -> None:
    show.table(["name", "count"], [["a\nb\x1b[31m\u202e", 5], ["\udcff", 12], ["é 漢", 1]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "count"]
    assert len(lines) == 5
    assert lines[2].startswith("a\\nb\\x1b[31m\\u202e")
    assert lines[3].startswith("\\udcff")
    assert lines[2].endswith("5") and lines[3].endswith("12")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_550_000, "1.6 MB"),
        (5e15, "5000.0 TB"),
        (None, ""),
    ],
)
def test_sizes(count: float | None, text: str) -> None:
    assert show.size(count) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        ("PT0.04S", "0.0 s"),
        ("PT12.345S", "12.3 s"),
        ("PT302S", "5 min 2 s"),
        ("PT11220.4S", "3 h 7 min"),
        ("PT7199.9S", "2 h 0 min"),
        (None, ""),
    ],
)
def test_durations(duration: str | None, text: str) -> None:
    assert follow.seconds_text(duration) == text


def test_where_group_and_vault_come_from(
    server: Responder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run(["policy", "list"]) == 2
    assert "--resource-group" in capsys.readouterr().err
    server.on(f"GET {GROUP}", {})
    server.on(
        f"PUT {VAULT}", {"name": "office", "id": VAULT, "location": "local", "properties": {}}
    )
    assert run(["vault", "create", "office", "-g", "home"]) == 0  # becomes the profile's vault
    base = (
        "/subscriptions/"
        + SUB
        + "/resourceGroups/{}/providers/Microsoft.RecoveryServices/vaults/{}"
    )
    for group, vault in (("home", "office"), ("g2", "v2"), ("g3", "v3")):
        server.on(f"GET {base.format(group, vault)}/backupPolicies", {"value": []})
    assert run(["policy", "list"]) == 0
    assert log_in(server, tmp_path) == 0  # keeps it
    assert load_profile().vault == "office"
    monkeypatch.setenv("HOLDFAST_GROUP", "g2")
    monkeypatch.setenv("HOLDFAST_VAULT", "v2")
    assert run(["policy", "list"]) == 0
    assert run(["policy", "list", "-g", "g3", "-v", "v3"]) == 0
    paths = [one.path.split("/")[4] for one in server.asked if "backupPolicies" in one.path]
    assert paths == ["home", "g2", "g3"]


def test_a_resource_group_is_made_on_first_use(server: Responder) -> None:
    server.refuse(f"GET {GROUP}", 404, "ResourceGroupNotFound", "none")
    server.on(f"PUT {GROUP}", {}, 201)
    server.on(f"PUT {VAULT}", {"name": "office", "id": VAULT, "location": "eu", "properties": {}})
    assert run(["vault", "create", "office", "-g", "home", "-l", "eu"]) == 0
    assert server.requests(f"PUT {GROUP}")[0].body == {"location": "eu"}
    assert server.requests(f"PUT {VAULT}")[0].body == {"location": "eu", "properties": {}}


def test_names_are_quoted_in_addresses(server: Responder) -> None:
    vault = f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/a/../b?x#y"
    server.on(f"GET {vault}/backupPolicies", {"value": []})
    assert run(["policy", "list", "-g", "home", "-v", "a/../b?x#y"]) == 0


# jobs


@pytest.mark.parametrize(
    ("status", "code"),
    [("Completed", 0), ("CompletedWithWarnings", 3), ("Failed", 1), ("Cancelled", 1)],
)
def test_the_exit_code_is_how_the_job_ended(
    server: Responder, capsys: Capture, status: str, code: int
) -> None:
    start(server)
    progress = {"phase": "Transfer", "doneBytes": 5_000_000, "doneFiles": 12, "totalFiles": 40}
    server.on(f"GET {JOB}", job("InProgress", progress=progress))
    finding = {"code": "FileChanged", "path": "/a\nb", "message": "changed"}
    ended = job(status, findings=[finding], findingsCount=1, result={"recoveryPointId": "77"})
    if status == "Failed":
        error = {
            "errorCode": "SourcePathMissing",
            "errorString": "gone",
            "recommendations": ["look"],
        }
        ended["properties"]["errorDetails"] = [error]
    server.on(f"GET {JOB}", ended)
    assert run([*BACKUP, "--wait"]) == code
    shown = capsys.readouterr()
    assert f"Backup of docs: {status} in 12.3 s" in shown.out
    assert "recovery point 77" in shown.out
    assert "FileChanged: /a\\nb: changed" in shown.out
    if status == "Failed":
        assert "error: gone\ncode: SourcePathMissing\nwhat to do: look\n" in shown.err


def test_json_with_wait_is_the_ended_job_alone(server: Responder, capsys: Capture) -> None:
    start(server)
    server.on(f"GET {JOB}", job("InProgress"))
    server.on(f"GET {JOB}", job())
    assert run([*BACKUP, "--wait", "-o", "json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == job()
    assert shown.err == ""


def test_what_to_type_next_names_another_vault_than_the_usual(
    server: Responder, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_VAULT", "usual")
    start(server)
    group, vault = BACKUP[BACKUP.index("-g") + 1], BACKUP[BACKUP.index("-v") + 1]
    assert run(BACKUP) == 0
    assert f"holdfast job wait j1 -g {group} -v {vault}\n" in capsys.readouterr().out
    monkeypatch.setenv("HOLDFAST_VAULT", vault)
    monkeypatch.setenv("HOLDFAST_GROUP", group)
    assert run(BACKUP) == 0
    assert "holdfast job wait j1\n" in capsys.readouterr().out


def test_without_wait_the_job_is_named(server: Responder, capsys: Capture) -> None:
    start(server)
    assert run([*BACKUP, "--retain-until", "2030-01-01"]) == 0
    assert "holdfast job wait j1" in capsys.readouterr().out
    sent = server.requests(f"POST {ITEM}/backup")[0].body["properties"]
    assert sent["recoveryPointExpiryTimeInUTC"] == "2030-01-01"


def test_ctrl_c_detaches_and_says_how_to_cancel(
    server: Responder, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(server)
    server.on(f"GET {JOB}", job("InProgress"))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.time, "sleep", interrupt)
    assert run([*BACKUP, "--wait"]) == 1
    shown = capsys.readouterr().err
    assert "holdfast job cancel j1" in shown and "goes on" in shown
    assert not server.requests(f"POST {JOB}/cancel")


def test_a_server_that_is_away_for_a_while_is_asked_again(
    server: Responder, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(server)
    for _ in range(3):
        server.on(f"GET {JOB}", "restarting", 503)
    server.on(f"GET {JOB}", job())
    monkeypatch.setattr(follow, "AWAY_SECONDS", 0.01)
    assert run([*BACKUP, "--wait"]) == 0
    assert capsys.readouterr().err.count("does not answer") == 1
    server.replies[f"GET {JOB}"] = []
    server.on(f"GET {JOB}", "down", 503)
    monkeypatch.setattr(follow, "PATIENCE_SECONDS", 0.05)
    assert run([*BACKUP, "--wait"]) == 1


def test_a_server_that_dies_over_its_answer_is_asked_for_the_job(
    server: Responder, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(server)
    (operation,) = (what for what in server.replies if "/backupOperations/" in what)
    server.replies[operation].insert(0, (503, "restarting", {}))
    server.on(f"GET {JOB}", job())
    monkeypatch.setattr(follow, "AWAY_SECONDS", 0.01)
    assert run([*BACKUP, "--wait"]) == 0
    assert capsys.readouterr().err.count("does not answer") == 1


def test_progress_on_a_terminal_and_in_plain_lines(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {
        "phase": "Transfer",
        "doneBytes": 2_000_000,
        "totalBytes": 4_000_000,
        "doneFiles": 1200,
        "transferredBytes": 500,
        "bytesPerSecond": 1_000_000,
    }
    body = job("InProgress", progress=figures)
    bars = follow.Bars()
    bars.show(body)
    bars.say("the [server] is away")
    bars.close()
    capsys.readouterr()
    lines = follow.Lines(quiet=False)
    lines.show(job("InProgress", progress={}, detail="Queued"))
    monkeypatch.setattr(follow.time, "monotonic", lambda: 1e12)
    for _ in range(3):
        lines.show(body)
    expected = "Transfer: 1,200 files, 2.0 MB of 4.0 MB, sent 500 B, 1.0 MB/s"
    assert capsys.readouterr().err.splitlines() == [expected]


# what commands send


def test_restore_says_where_and_what(server: Responder, capsys: Capture) -> None:
    words = at_vault("restore", "--item", "docs", "--container", "web1", "--recovery-point", "7")
    assert run(words) == run([*words, "--to", "/x", "--original"]) == 2
    assert run([*words, "--original", "--to-container", "web2"]) == 2
    link = {"Azure-AsyncOperation": f"{server.url}{ITEM}/operationsStatus/o1?api-version=1"}
    server.on(f"POST {ITEM}/recoveryPoints/7/restore", None, 202, link)
    server.on(f"GET {VAULT}/backupOperations/o1", {"properties": {"jobId": "j1"}})
    more = ["--to", "/back", "--to-container", "web2", "--path", "/a", "--path", "/b"]
    assert run([*words, *more, "--conflict", "keep-both", "--dry-run"]) == 0
    assert server.requests(f"POST {ITEM}/recoveryPoints/7/restore")[0].body["properties"] == {
        "objectType": "FilesRestoreRequest",
        "recoveryType": "AlternateLocation",
        "targetDirectory": "/back",
        "targetContainerName": "web2",
        "paths": ["/a", "/b"],
        "conflict": "keep-both",
        "dryRun": True,
    }


def test_a_policy_is_set_under_its_etag_and_created_only_once(
    server: Responder, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"properties": {"timeZone": "UTC"}}))
    what = f"{VAULT}/backupPolicies/p"
    server.on(f"GET {what}", {"name": "p", "eTag": "e7", "properties": {}})
    server.on(f"PUT {what}", {"name": "p", "properties": {}})
    assert run(at_vault("policy", "create", "p", "--file", str(file))) == 1
    assert "PolicyExists" in capsys.readouterr().err
    assert run(at_vault("policy", "set", "p", "--file", str(file))) == 0
    (sent,) = server.requests(f"PUT {what}")
    assert sent.headers["if-match"] == "e7" and sent.body == {"properties": {"timeZone": "UTC"}}
    for text in ("{", "[1]", '{"properties": 5}'):
        file.write_text(text)
        assert run(at_vault("policy", "set", "p", "--file", str(file))) == 1
        assert "UserErrorInvalidPolicyInput" in capsys.readouterr().err


def test_an_item_needs_includes_and_an_update_a_change(server: Responder) -> None:
    words = at_vault("item", "protect", "docs", "--container", "web1", "--policy", "P")
    assert run(words) == 2
    assert run(at_vault("item", "update", "docs", "--container", "web1")) == 2
    server.on(f"PUT {ITEM}", {"name": "x", "properties": {}})
    assert run([*words, "--include", "/a b", "--exclude", "*.tmp"]) == 0
    sent = server.requests(f"PUT {ITEM}")[0].body["properties"]
    assert sent["policyId"] == f"{VAULT}/backupPolicies/P"
    assert sent["holdfast"] == {"includePaths": ["/a b"], "excludeGlobs": ["*.tmp"]}
    assert (sent["protectedItemType"], sent["backupManagementType"]) == (
        "MabFileFolderProtectedItem",
        "MAB",
    )


def test_the_throttle_of_an_item(server: Responder, capsys: Capture) -> None:
    words = [*at_vault("item", "update", "docs", "--container", "web1"), "--throttle"]
    server.on(f"GET {ITEM}", {"name": "x", "properties": {}})
    server.on(f"PUT {ITEM}", {"name": "x", "properties": {}})
    for typed, sent in (("20MB", 20_000_000), ("none", 0)):
        assert run([*words, typed]) == 0
        asked = server.requests(f"PUT {ITEM}")[-1].body["properties"]
        assert asked["holdfast"] == {"throttleBytesPerSecond": sent}
    assert run([*words, "fast"]) == 2
    assert "20MB" in capsys.readouterr().err


def test_destroying_commands_ask_or_need_yes(server: Responder, capsys: Capture) -> None:
    for words in (
        ["vault", "delete", "office", "-g", "home"],
        at_vault("item", "disable", "docs", "--container", "web1", "--delete-data"),
    ):
        assert run(words) == 2
        assert "--yes" in capsys.readouterr().err
    assert not [one for one in server.asked if one.method == "DELETE"]


def test_a_passphrase_comes_from_a_file_the_environment_or_a_terminal(
    server: Responder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    what = f"POST {VAULT}/providers/Holdfast.Backup/exportKey"
    server.on(what, {"properties": {"keyFile": "a2V5"}})
    target = tmp_path / "office.key"
    words = ["vault", "export-key", "office", "-g", "home", "-o", str(target)]
    assert run(words) == 1
    assert "PassphraseMissing" in capsys.readouterr().err
    (tmp_path / "phrase").write_text("from a file\n")
    assert run([*words, "--passphrase-file", str(tmp_path / "phrase")]) == 0
    monkeypatch.setenv("HOLDFAST_PASSPHRASE", "from outside")
    target.unlink()
    assert run(words) == 0
    sent = [one.body["properties"]["passphrase"] for one in server.requests(what)]
    assert sent == ["from a file", "from outside"]
    assert target.read_bytes() == b"key" and stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("48h", 172800), ("0s", 0), ("30 m", 1800), ("7d", 604800), ("1w", None), ("", None)],
)
def test_time_spans(server: Responder, tmp_path: Path, text: str, seconds: int | None) -> None:
    what = f"POST {VAULT}/providers/Holdfast.Backup/createVaultCredentials"
    given = {"credentials": {"token": "t"}, "expiresAt": "2030-01-01T00:00:00Z"}
    server.on(what, {"properties": given})
    words = ["vault", "credentials", "office", "-g", "home", "-o", str(tmp_path / "c")]
    assert run([*words, "--expires", text]) == (2 if seconds is None else 0)
    if seconds is not None:
        assert server.requests(what)[0].body == {"properties": {"expiresInSeconds": seconds}}
        assert json.loads((tmp_path / "c").read_text()) == {"token": "t"}


# what must never happen


def test_an_unwritable_file_is_named(server: Responder, tmp_path: Path, capsys: Capture) -> None:
    what = f"POST {VAULT}/providers/Holdfast.Backup/createVaultCredentials"
    server.on(what, {"properties": {"credentials": {}, "expiresAt": "2030"}})
    target = tmp_path / "missing" / "c"
    assert run(["vault", "credentials", "office", "-g", "home", "-o", str(target)]) == 1
    shown = capsys.readouterr().err
    assert "code: FileError" in shown and "missing" in shown


def test_a_defect_ends_in_three_lines(server: Responder, capsys: Capture) -> None:
    server.on(f"GET {VAULT}/backupPolicies", {"value": [{"unexpected": 1}]})
    assert run(at_vault("policy", "list")) == 1
    shown = capsys.readouterr().err
    assert "code: InternalError" in shown and "HOLDFAST_DEBUG" in shown
    assert "Traceback" not in shown


def test_a_reader_that_goes_away_is_no_error(server: Responder, tmp_path: Path) -> None:
    rows = [{"name": "p" * 2000, "properties": {}} for _ in range(200)]
    server.on(f"GET {VAULT}/backupPolicies", {"value": rows})
    command = [sys.executable, "-m", "holdfast.cli.main", *at_vault("policy", "list")]
    with subprocess.Popen(
        command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        process.wait()
    assert said == b""
