"""Bad input gets a code, what happened and what to do; it never costs data or shows a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, Answer, World


def assert_refused(answer: Answer, code: str, *, exit_code: int = 1) -> None:
    shown = answer.out + answer.err
    assert "Traceback" not in shown
    assert answer.code == exit_code, shown
    assert code in shown, shown
    assert "what to do" in shown.lower() or exit_code == 2, shown


def test_unknown_vault_item_policy_and_point(world: World) -> None:
    assert_refused(world.cli("vault", "show", "nowhere", "-g", GROUP), "ResourceNotFound")
    assert_refused(world.cli("policy", "show", "nowhere"), "NotFound")
    item = ("--item", "nothing", "--container", HOST)
    assert_refused(world.cli("backup", "now", *item), "NotFound")
    words = ("recovery-point", "show", "--recovery-point", "1", "--item", ITEM)
    assert_refused(world.cli(*words, "--container", HOST), "NotFound")


def test_policy_out_of_range(world: World, tmp_path: Path) -> None:
    policy = world.ask("policy", "show", "DefaultPolicy")
    daily = policy["properties"]["retentionPolicy"]["dailySchedule"]
    daily["retentionDuration"]["count"] = 3
    draft = tmp_path / "policy.json"
    draft.write_text(json.dumps(policy))
    answer = world.cli("policy", "create", "too-short", "--file", draft)
    assert_refused(answer, "UserErrorInvalidPolicyInput")
    draft.write_text("{ not json")
    assert world.cli("policy", "create", "broken", "--file", draft).code in (1, 2)
    assert "Traceback" not in world.cli("policy", "create", "broken", "--file", draft).err


def test_policy_in_use_cannot_be_deleted(world: World) -> None:
    assert_refused(world.cli("policy", "delete", "DefaultPolicy"), "InUse")


def test_empty_include_is_a_usage_error(world: World) -> None:
    words = ("item", "protect", "x", "--container", HOST, "--policy", "DefaultPolicy")
    assert world.cli(*words).code == 2
    assert_refused(world.cli(*words, "--include", ""), "nclude", exit_code=2)


def test_missing_source_path_fails_the_job_and_keeps_points(world: World, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / "a").write_text("a")
    world.protect(gone, item="gone")
    world.back_up(item="gone")
    (gone / "a").unlink()
    gone.rmdir()
    answer = world.cli("backup", "now", "--item", "gone", "--container", HOST, "--wait")
    assert_refused(answer, "SourcePathMissing")
    assert len(world.points("gone")) == 1
    lines = [json.loads(line) for line in world.log(HOST).splitlines() if line.startswith("{")]
    job = world.jobs()[0]["name"]
    (error,) = world.ask("job", "show", job)["properties"]["errorDetails"]
    assert (error["errorCode"], bool(error["recommendations"])) == ("SourcePathMissing", True)
    assert str(gone) in error["errorString"]
    told = [line["message"] for line in lines if line.get("job_id") == job]
    assert "files-backup" in told[0]
    assert "SourcePathMissing" in told[-1]


def test_second_agent_of_a_name_is_refused_and_replace_takes_over(
    world: World, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials.json"
    world.ok("vault", "credentials", VAULT, "-g", GROUP, "-o", credentials)
    words = ("agent", "enroll", "--credentials", credentials, "--data", tmp_path / "second")
    answer = world.cli(*words, "--name", HOST)
    assert_refused(answer, "ContainerAlreadyRegistered")
    assert "--replace" in answer.out + answer.err


def test_expired_vault_credentials(world: World, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    words = ("vault", "credentials", VAULT, "-g", GROUP, "-o", credentials)
    world.ok(*words, "--expires", "0s")
    enroll = ("agent", "enroll", "--credentials", credentials, "--data", tmp_path / "late")
    assert_refused(world.cli(*enroll, "--name", "late"), "VaultCredentialsExpired")


def test_wrong_secret_and_wrong_server(world: World, tmp_path: Path) -> None:
    wrong = json.loads((world.server_data / "admin.json").read_text())
    wrong["client_secret"] = "not the secret"
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(wrong))
    login = ("login", "--ca", world.server_data / "ca.pem", "--credentials", path)
    answer = world.cli(*login, "--server", f"https://127.0.0.1:{world.port}")
    assert_refused(answer, "invalid_client")
    answer = world.cli(*login, "--server", "https://127.0.0.1:9")
    assert_refused(answer, "ServerUnreachable")


def test_a_token_gone_bad_is_renewed_without_a_word(world: World) -> None:
    token = next((world.folder / "profile").glob("*token*"))
    token.write_text('{"token": "eyJhbGciOiJub25lIn0.e30.", "until": 1e12}')
    assert world.cli("vault", "list").code == 0
    token.write_text("not even JSON")
    assert world.cli("vault", "list").code == 0


def test_settings_that_are_none(world: World, tmp_path: Path) -> None:
    starts = (("agent", world.agent_data()), ("server", tmp_path / "new"))
    for program, data in starts:
        for name, value in (("HOLDFAST_LOG_LEVEL", "bogus"), ("HOLDFAST_LOGLEVEL", "debug")):
            world.environment[name] = value
            try:
                answer = world.cli(program, "start", "--data", data)
            finally:
                del world.environment[name]
            assert_refused(answer, "InvalidSettings")


def test_unusable_restore_target(world: World, tmp_path: Path) -> None:
    if not world.points():
        world.back_up()
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    words = ("restore", "--item", ITEM, "--container", HOST, "--recovery-point", "latest")
    answer = world.cli(*words, "--to", blocked / "below", "--wait")
    assert_refused(answer, "Target")
    assert blocked.read_text() == "not a folder"


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A stopped server whose vault holds one recovery point. Tests leave the vault whole and the
    server stopped."""
    made = World(tmp_path_factory.mktemp("lone"))
    source = made.folder / "src"
    source.mkdir()
    (source / "a").write_bytes(bytes(range(256)) * 5000)
    try:
        made.set_up(source)
        made.back_up()
        made.stop_agent()
        made.stop_server()
        yield made
    finally:
        made.close()


def test_damaged_vault_is_named_and_refused(lone: World) -> None:
    pack = max(lone.vault_folder().glob("packs/*/*"), key=lambda path: path.stat().st_size)
    whole = pack.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 3] ^= 1
    pack.write_bytes(damaged)
    lone.start_server()
    answer = lone.cli("vault", "verify", VAULT, "-g", GROUP)
    assert answer.code == 1
    assert pack.name in answer.out + answer.err
    lone.stop_server()
    pack.write_bytes(whole)


def test_moved_vault_folder(lone: World) -> None:
    folder = lone.vault_folder()
    folder.rename(folder.with_name("elsewhere"))
    lone.start_server()
    assert_refused(lone.cli("vault", "verify", VAULT, "-g", GROUP), "VaultStoreMissing")
    folder.with_name("elsewhere").rename(folder)
    assert lone.cli("vault", "verify", VAULT, "-g", GROUP).code == 0
    lone.stop_server()


@pytest.mark.parametrize("words", [("server", "start"), ("vault",), ("restore",), ("nonsense",)])
def test_usage_errors_exit_with_two(world: World, words: tuple[str, ...]) -> None:
    answer = world.cli(*words)
    assert answer.code == 2
    assert "Traceback" not in answer.err
