"""What a user types about logins, people, roles, alerts, services and their shell."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from holdfast.testing.tables import rows_of
from holdfast.testing.world import GROUP, HOST, VAULT, World

HERE = ("-g", GROUP, "-v", VAULT)


def test_a_login_by_client_id_and_secret_file(world: World, tmp_path: Path) -> None:
    admin = json.loads((world.server_data / "admin.json").read_text())
    secret = tmp_path / "secret"
    secret.write_text(admin["client_secret"] + "\n")
    before = world.environment["HOLDFAST_CONFIG_DIR"]
    world.environment["HOLDFAST_CONFIG_DIR"] = str(tmp_path / "profile")
    where = ("--server", f"https://127.0.0.1:{world.port}", "--ca", world.server_data / "ca.pem")
    try:
        words = ("login", *where, "--client-id", admin["client_id"])
        assert "--secret-file" in world.cli(*words).err
        assert "logged in to" in world.ok(*words, "--secret-file", secret).out
        assert VAULT in world.ok("vault", "list").out
        secret.write_text("not the secret")
        refused = world.cli(*words, "--secret-file", secret)
        assert refused.code == 1 and "code: invalid_client" in refused.err
    finally:
        world.environment["HOLDFAST_CONFIG_DIR"] = before


def test_people_get_new_passwords_and_roles_everywhere(world: World, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("correct horse battery")
    second.write_text("staple gun paper clip")
    world.ok("user", "create", "cleo", "--password-file", first)
    roles = {row["role"] for row in rows_of(world.ok("role", "list").out)}
    assert "Backup Reader" in roles
    assert {row["properties"]["roleName"] for row in world.ask("role", "list")} == roles
    world.ok("role", "assign", "Backup Reader", "--user", "cleo", "--everywhere")
    found = world.ask("role", "assignments", "--everywhere", "--user", "cleo")
    assert [row["properties"]["roleDefinitionName"] for row in found] == ["Backup Reader"]

    told = world.ok("user", "set-password", "cleo", "--password-file", second).out
    assert "cleo signs in with the new password" in told
    before = world.environment["HOLDFAST_CONFIG_DIR"]
    world.environment["HOLDFAST_CONFIG_DIR"] = str(tmp_path / "profile")
    where = ("--server", f"https://127.0.0.1:{world.port}", "--ca", world.server_data / "ca.pem")
    log_in = ("login", *where, "--user", "cleo", "--password-file")
    try:
        assert world.cli(*log_in, first).code == 1
        world.ok(*log_in, second)
        assert VAULT in world.ok("vault", "list").out
    finally:
        world.environment["HOLDFAST_CONFIG_DIR"] = before
    assert rows_of(world.ok("user", "show", "cleo").out)[0]["name"] == "cleo"
    world.ok("user", "unlock", "cleo")
    assert world.ask("user", "show", "cleo")["properties"]["lockedUntil"] is None
    told = world.ok("role", "revoke", "Backup Reader", "--user", "cleo", "--everywhere").out
    assert "no longer Backup Reader" in told
    assert world.ask("role", "assignments", "--user", "cleo", "--everywhere") == []


def test_a_login_is_lent_to_one_command(world: World) -> None:
    ask = (
        "import json, os, urllib.request as web; "
        "asked = web.Request(os.environ['IDENTITY_ENDPOINT'] + '?resource=x', "
        "headers={'X-IDENTITY-HEADER': os.environ['IDENTITY_HEADER']}); "
        "print(json.load(web.urlopen(asked))['token_type'])"
    )
    answer = world.ok("identity", "exec", "python3", "-c", ask)
    assert answer.out == "Bearer\n"
    assert world.cli("identity", "exec", "sh", "-c", "exit 7").code == 7


def test_alerts_are_found_by_state_and_rule_and_sent_to_nobody(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    world.protect(tmp_path / "tree", item="missing")
    (tmp_path / "tree").rmdir()
    words = ("backup", "now", "--item", "missing", "--container", HOST, "--wait")
    assert world.cli(*words).code == 1
    asked = ("alert", "list", "--state", "New", "--rule", "BackupFailure", *HERE)
    rows = rows_of(world.ok(*asked).out)
    assert "missing" in rows[0]["about"]
    assert {row["name"] for row in world.ask(*asked)} == {row["alert"] for row in rows}
    assert world.ask("alert", "list", "--state", "Closed", "--rule", "BackupFailure", *HERE) == []
    unknown = world.cli("alert", "settings", "--webhook", "nowhere", *HERE)
    assert unknown.code == 1 and "nowhere" in unknown.err
    told = rows_of(world.ok("alert", "settings", "--nobody", *HERE).out)[0]
    assert (told["emails"], told["webhooks"]) == ("", "")


def test_units_for_systemd_are_printed(world: World, tmp_path: Path) -> None:
    server = world.ok(
        *("server", "install-service", "--data", tmp_path, "--listen", "0.0.0.0:8443", "--print")
    ).out
    assert f"ExecStart={world.program} server start --data {tmp_path} --listen 0.0.0.0" in server
    agent = world.ok("agent", "install-service", "--data", tmp_path, "--print").out
    assert f"ExecStart={world.program} agent start --data {tmp_path}\n" in agent


def test_a_new_administrator_replaces_the_lost_one(bare: World) -> None:
    bare.start_server()
    lost = json.loads((bare.server_data / "admin.json").read_text())
    bare.login()
    bare.stop_server()
    bare.start_server(more=("--new-administrator",))
    made = json.loads((bare.server_data / "admin.json").read_text())
    assert made["client_secret"] != lost["client_secret"]
    (bare.folder / "profile" / "token.json").unlink(missing_ok=True)
    assert bare.cli("vault", "list").code == 1, "the old administrator is nobody any more"
    bare.login()
    bare.ok("vault", "list")


def test_bash_completes_commands_and_options(world: World, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(world.ok("completion", "bash").out)

    def completed(*words: str) -> set[str]:
        """What bash offers for the last word."""
        typed = " ".join(f"'{word}'" for word in words)
        lines = (
            f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
            '_holdfast_completion holdfast; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        path = f"{world.program.parent}:{os.environ['PATH']}"
        environment = {**world.environment, "PATH": path}
        done = subprocess.run(
            ["bash", "-c", lines], env=environment, capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    assert {"vault", "vm"} <= completed("holdfast", "v")
    assert {"verify"} == completed("holdfast", "vault", "ver")
    assert "--recovery-point" in completed("holdfast", "restore", "--rec")
    assert {"skip"} == completed("holdfast", "restore", "--conflict", "s")
    for shell in ("zsh", "fish"):
        assert "_HOLDFAST_COMPLETE" in world.ok("completion", shell).out
