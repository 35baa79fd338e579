"""Odd values in every argument and option of every command: a clear refusal or a harmless request,
never a defect, and never an address that leads to something else than what was named."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from holdfast.cli.main import root, run
from holdfast.files import MOST_BYTES
from holdfast.testing.arm_responder import Responder, responder

SUB = "11111111-1111-1111-1111-111111111111"
VAULT = f"/subscriptions/{SUB}/resourceGroups/home/providers/Microsoft.RecoveryServices/vaults/v1"
PROGRAMS = {"server", "identity", "completion"}  # start something, or print a script
HERE = {("agent", "start"), ("agent", "appliance"), ("agent", "install-service"), ("logout",)}
ODD = ["..", "\udcff", "a\x1b[31m\x7fb", "x" * 3000]
Capture = pytest.CaptureFixture[str]
Leaf = tuple[tuple[str, ...], click.Command]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Responder]:
    """A responder, and a profile that is logged in to it."""
    folder = tmp_path_factory.mktemp("odd")
    with pytest.MonkeyPatch.context() as patch, responder(folder) as found:
        for name in ("HOLDFAST_GROUP", "HOLDFAST_VAULT"):
            patch.delenv(name, raising=False)
        patch.setenv("HOLDFAST_CONFIG_DIR", str(folder / "profile"))
        patch.setenv("HOLDFAST_PASSPHRASE", "a passphrase for tests")
        patch.chdir(folder)
        found.on("GET /subscriptions", {"value": [{"subscriptionId": SUB}]})
        (folder / "admin.json").write_text(
            json.dumps({"client_id": "c1", "client_secret": "secret", "subscription_id": SUB})
        )
        words = ["login", "--server", found.url, "--ca", str(found.ca)]
        assert run([*words, "--credentials", str(folder / "admin.json")]) == 0
        (folder / "file.json").write_text('{"properties": {}}')
        yield found


def leaves(found: click.Command, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    if not isinstance(found, click.Group):
        yield path, found
        return
    context = click.Context(found)
    for name in found.list_commands(context):
        below = found.get_command(context, name)
        assert below is not None
        yield from leaves(below, (*path, name))


COMMANDS = [leaf for leaf in leaves(root) if leaf[0][0] not in PROGRAMS and leaf[0] not in HERE]


def is_text(param: click.Parameter) -> bool:
    return not getattr(param, "is_flag", False) and not isinstance(param.type, click.Choice)


def words_of(leaf: Leaf, odd: click.Parameter, value: str) -> list[str]:
    """The command with ``value`` for one parameter and something plain for the required ones."""
    path, command = leaf
    words = list(path)
    plain = {"group": "home", "vault": "v1", "file": "file.json", "credentials": "file.json"}
    for param in command.params:
        wanted = param.required or param.name in ("group", "vault")
        text = value if param is odd else plain.get(param.name or "", "name1")
        if param is not odd and not wanted:
            continue
        option = param.opts[-1] if isinstance(param, click.Option) else ""
        words += [option, text] if option else [text]
    return [*words, "--yes"] if any(param.name == "yes" for param in command.params) else words


@pytest.mark.parametrize("leaf", COMMANDS, ids=lambda leaf: " ".join(leaf[0]))
def test_an_odd_value_is_refused_or_harmless(
    server: Responder, leaf: Leaf, capsys: Capture
) -> None:
    for param in filter(is_text, leaf[1].params):
        for value in ODD:
            server.asked.clear()
            code = run(words_of(leaf, param, value))
            said = capsys.readouterr().err
            where = (leaf[0], param.name, value[:20], said[:500])
            assert code in (0, 1, 2, 3), where
            assert "InternalError" not in said and "Traceback" not in said, where
            assert code in (0, 3) or "\nwhat to do: " in said, where
            assert said.isascii() and "\x1b" not in said and "\x7f" not in said, where
            for asked in server.asked:
                assert not {"..", "."} & set(asked.path.split("/")), where
                assert "//" not in asked.path, where


@pytest.mark.parametrize("leaf", COMMANDS, ids=lambda leaf: " ".join(leaf[0]))
def test_an_empty_value_is_a_usage_error(server: Responder, leaf: Leaf, capsys: Capture) -> None:
    """Such as of a variable that was not set; it must not stand for a value left out."""
    for param in leaf[1].params:
        if getattr(param, "is_flag", False):
            continue
        server.asked.clear()
        assert run(words_of(leaf, param, "")) == 2, (leaf[0], param.name)
        said = capsys.readouterr().err
        assert "is empty" in said and "InvalidUsage" in said
        if isinstance(param, click.Option):
            assert param.opts[-1] in said
            assert run([*leaf[0], f"{param.opts[-1]}="]) == 2
        assert server.asked == []


def test_two_dots_for_a_policy_do_not_delete_its_vault(server: Responder, capsys: Capture) -> None:
    server.asked.clear()
    for name in ("..", ".", "../..", "a/../.."):
        run(["policy", "delete", name, "-g", "home", "-v", "v1"])
    deleted = [one.path for one in server.asked if one.method == "DELETE"]
    inside = f"{VAULT}/backupPolicies/"
    assert all(path.startswith(inside) for path in deleted), deleted
    assert "InvalidName" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["policy", "create", "p", "--file", "FILE", "-g", "home", "-v", "v1"], 1),
        (["region", "create", "r", "--store", "s3://b/p", "--credentials", "FILE"], 1),
        (["agent", "enroll", "--credentials", "FILE", "--data", "agent"], 1),
        (["store", "list", "--path", ".", "--key", "FILE"], 1),
        (["vault", "import", "--path", ".", "--key", "FILE", "-g", "home"], 1),
        (["login", "--server", "https://x", "--ca", "FILE", "--credentials", "FILE"], 1),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"5", b"null", b'"text"', b"[[1]]", b"[" * 100_000, None, "endless"],
    ids=["empty", "bytes", "number", "null", "text", "list", "deep", "missing", "endless"],
)
def test_a_file_of_another_kind(
    server: Responder,
    tmp_path: Path,
    capsys: Capture,
    words: list[str],
    code: int,
    content: bytes | str | None,
) -> None:
    file = tmp_path / "file"
    if content == "endless":
        with file.open("wb") as out:
            out.truncate(MOST_BYTES + 1)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    server.asked.clear()
    assert run([str(file) if word == "FILE" else word for word in words]) == code
    said = capsys.readouterr().err
    assert "InternalError" not in said
    assert "\nwhat to do: " in said
    ours = ("/backupPolicies/", "/regions/")
    assert not [one for one in server.asked if one.body and any(name in one.path for name in ours)]


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Writing beyond ``size`` bytes of a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "words",
    [
        ["vault", "credentials", "v1", "-g", "home"],
        ["vault", "export-key", "v1", "-g", "home"],
        ["client", "create", "ann"],
        ["client", "renew-secret", "ann"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_secret_finds_its_place_before_it_is_made(
    server: Responder, tmp_path: Path, capsys: Capture, words: list[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "letter").write_text("dear ann")
    (tmp_path / "loop").symlink_to("loop")
    odd = ["fifo", "letter", "loop", "letter/below", "nowhere/at/all", "n" * 300]
    server.asked.clear()
    for name in odd:
        assert run([*words, "-o", str(tmp_path / name)]) == 1, name
        said = capsys.readouterr().err
        assert name[:20] in said and "what to do: " in said
        assert "InternalError" not in said
    with files_end_at(4096):  # as on a full disk
        assert run([*words, "-o", str(tmp_path / "full")]) == 1
    assert f"error: {tmp_path}/full: " in capsys.readouterr().err
    assert run([*words, "-o", str(tmp_path)]) == 2
    assert [one for one in server.asked if one.method != "GET"] == []
    assert (tmp_path / "fifo").is_fifo()
    assert (tmp_path / "letter").read_text() == "dear ann"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "letter", "loop"]


def test_an_enrolment_file_may_be_replaced(server: Responder, tmp_path: Path) -> None:
    made = {"server": "https://x", "ca": "pem", "token": "t2"}
    body = {"properties": {"credentials": made, "expiresAt": "2026-01-01T00:00:00Z"}}
    server.on(f"POST {VAULT}/providers/Holdfast.Backup/createVaultCredentials", body)
    file = tmp_path / "credentials"
    file.write_text(json.dumps({**made, "token": "t1"}))
    assert run(["vault", "credentials", "v1", "-g", "home", "-o", str(file)]) == 0
    assert json.loads(file.read_text())["token"] == "t2"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="a device that is always full")
def test_output_that_finds_no_room_is_told(server: Responder) -> None:
    program = [sys.executable, "-c", "from holdfast.cli.main import main; main()"]
    with Path("/dev/full").open("wb") as full:
        words = [*program, "completion", "bash"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr and "what to do: " in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
