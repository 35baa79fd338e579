"""The commands there are, their help, and how fast the program starts."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from holdfast.cli.main import root, run
from holdfast.cli.services import unit_text

COMMANDS = """
agent appliance, agent enroll, agent install-service, agent start, alert acknowledge, alert close,
alert list, alert settings, alert show, backup now, client create, client delete, client list,
client renew-secret, client show, completion, container list, container show, container unregister,
identity exec, item disable, item list, item protect, item resume, item show, item undelete, item
update, job cancel, job list, job show, job wait, login, logout, policy create, policy delete,
policy list, policy preview, policy set, policy show, recovery-point browse, recovery-point list,
recovery-point show, region adopt-disk, region create, region fail-over, region list, region show,
restore, role assign, role
assignments, role list, role revoke, server install-service, server start, storage-account create,
storage-account list, storage-account remove, store list, store restore, store scrub, user
change-password, user create, user delete, user disable-totp, user enable-totp, user end-sessions,
user list, user set-password, user show, user unlock, vault accept-head, vault audit, vault collect,
vault confirm-clock, vault create, vault credentials, vault delete, vault expire, vault export-key,
vault import, vault list, vault list-deleted, vault repair, vault report, vault scrub, vault show,
vault undelete, vault update, vault verify, vm backup, vm browse, vm disable, vm instant, vm list,
vm migrate, vm protect, vm restore, vm restore-files, vm show, vm test, vm undelete
"""
HEAVY = ["sqlalchemy", "dbos", "litestar", "numpy", "uvicorn", "obstore", "msgspec", "blake3"]


def commands() -> dict[str, click.Command]:
    """Full name -> command, of all that is not a group."""

    def walk(command: click.Command, path: list[str]) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield " ".join(path), command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(inner, [*path, name])

    return dict(walk(root, []))


def test_the_commands_are_those_of_the_contract() -> None:
    assert sorted(commands()) == [name.strip() for name in COMMANDS.replace("\n", " ").split(",")]


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_shows_an_example_that_parses(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example:\n" in shown
    lines = [line.strip() for line in shown.partition("Example:\n")[2].splitlines()]
    examples = [line for line in lines if line.startswith("holdfast ")]
    assert examples
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])[1:]
        path, rest = words[: len(name.split())], words[len(name.split()) :]
        assert " ".join(path) == name
        command = commands()[name]
        command.make_context(name, rest, resilient_parsing=False)


def test_every_group_shows_help_and_nothing_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["--help"]) == 0
    assert "recovery-point" in capsys.readouterr().out
    for words in ([], ["vault"], ["nonsense"], ["vault", "nonsense"], ["vault", "create"]):
        assert run(words) == 2, words
    assert "what to do: see: holdfast vault create --help" in capsys.readouterr().err


def test_the_secret_and_the_passphrase_are_never_arguments() -> None:
    for name, command in commands().items():
        options = {text for option in command.params for text in option.opts}
        assert not options & {"--passphrase", "--secret", "--client-secret", "--password"}, name


def _imports(words: list[str], environment: dict[str, str]) -> list[str]:
    """Modules loaded by a command in a process of its own."""
    script = (
        "import sys, json\nfrom holdfast.cli.main import run\nrun(sys.argv[1:])\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stderr.splitlines()[-1])
    return found


def test_help_loads_next_to_nothing_and_clients_no_server(tmp_path: Path) -> None:
    loaded = _imports(["--help"], {})
    assert not {*HEAVY, "httpx2", "rich", "ssl", "json.decoder", "asyncio"} & {*loaded}.difference(
        {"json.decoder"}
    )
    assert len(loaded) < 250
    environment = {"HOLDFAST_CONFIG_DIR": str(tmp_path), "HOLDFAST_PASSPHRASE": ""}
    client = _imports(["vault", "list"], environment)
    assert "holdfast.cli.api" in client
    assert not set(HEAVY) & set(client)


def test_shell_completion_answers(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert run(["completion", shell]) == 0
        assert "_HOLDFAST_COMPLETE" in capsys.readouterr().out
    words = {"COMP_WORDS": "holdfast vault ex", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli.main"],
        env={**os.environ, **words, "_HOLDFAST_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["plain,expire", "plain,export-key"]


def test_a_unit_runs_the_program_with_its_data_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["server", "install-service", "--data", str(tmp_path), "--print"]) == 0
    shown = capsys.readouterr().out
    assert f"server start --data {tmp_path} --listen 127.0.0.1:8443\n" in shown
    assert "KillSignal=SIGTERM" in shown
    odd = unit_text("agent", Path("/opt/hold fast/bin/holdfast"), Path('/srv/50% "a"'), [])
    assert 'ExecStart="/opt/hold fast/bin/holdfast" agent start' in odd
    assert '--data "/srv/50%% \\"a\\""\n' in odd


def test_a_unit_is_written_where_systemd_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("holdfast.cli.services.UNITS", tmp_path)
    assert run(["agent", "install-service", "--data", "/var/lib/agent"]) == 0
    path = tmp_path / "holdfast-agent.service"
    assert str(path) in capsys.readouterr().out
    text = path.read_text()
    assert "agent start --data /var/lib/agent\n" in text
    assert "KillMode=process\n" in text, "machines that run from the vault outlive the agent"
    monkeypatch.setattr("holdfast.cli.services.UNITS", tmp_path / "missing")
    assert run(["agent", "install-service", "--data", "/var/lib/agent"]) == 1
    assert "ServiceNotInstalled" in capsys.readouterr().err
