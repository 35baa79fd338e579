"""Logins and roles, from the command line of two people."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

HERE = ("-g", GROUP, "-v", VAULT)


class Person:
    """Somebody with a profile of their own on the same machine."""

    def __init__(self, world: World, folder: Path, credentials: Path) -> None:
        self.world, self.profile = world, folder
        ca = world.server_data / "ca.pem"
        words = ("login", "--server", f"https://127.0.0.1:{world.port}", "--ca", ca)
        assert self.code(*words, "--credentials", credentials) == ""

    def code(self, *words: str | Path) -> str:
        """What a command was refused with; "" when it was not."""
        before = self.world.environment
        self.world.environment = {**before, "HOLDFAST_CONFIG_DIR": str(self.profile)}
        try:
            answer = self.world.cli(*words)
        finally:
            self.world.environment = before
        assert "Traceback" not in answer.err
        found = [line[6:] for line in answer.err.splitlines() if line.startswith("code: ")]
        return found[0] if found and answer.code else ""


@pytest.fixture
def ann(world: World, tmp_path: Path) -> Person:
    """A login without any role."""
    file = tmp_path / "ann.json"
    name = f"ann-{tmp_path.name}"
    world.ok("client", "create", name, "-o", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    world.ok("role", "assign", "Backup Reader", "--client", name, "-g", "elsewhere")
    return Person(world, tmp_path / "profile", file)


def test_a_role_opens_what_it_names_and_closes_when_revoked(
    world: World, ann: Person, tmp_path: Path
) -> None:
    name = f"ann-{tmp_path.name}"
    show = ("item", "show", ITEM, "--container", HOST, *HERE)
    disable = ("item", "disable", ITEM, "--container", HOST, *HERE)
    assert ann.code(*show) == "AuthorizationFailed"
    world.ok("role", "assign", "Backup Operator", "--client", name, *HERE)
    assert ann.code(*show) == ""
    assert ann.code(*disable) == "AuthorizationFailed"
    assert ann.code("client", "list") == "AuthorizationFailed"
    world.ok("role", "assign", "Backup Operator", "--client", name, *HERE)
    rows = world.ask("role", "assignments", "--client", name, *HERE)
    assert [row["properties"]["roleDefinitionName"] for row in rows] == ["Backup Operator"]
    world.ok("role", "revoke", "backup operator", "--client", name, *HERE)
    assert ann.code(*show) == "AuthorizationFailed"
    twice = world.cli("role", "revoke", "Backup Operator", "--client", name, *HERE)
    assert "RoleAssignmentNotFound" in twice.err


def test_a_renewed_or_deleted_login_is_refused_at_once(
    world: World, ann: Person, tmp_path: Path
) -> None:
    name, fresh = f"ann-{tmp_path.name}", tmp_path / "fresh.json"
    world.ok("client", "renew-secret", name, "-o", fresh)
    ca = world.server_data / "ca.pem"
    login = ("login", "--server", f"https://127.0.0.1:{world.port}", "--ca", ca, "--credentials")
    assert ann.code(*login, tmp_path / "ann.json") == "invalid_client"
    assert ann.code(*login, fresh) == ""
    world.ok("client", "delete", name, "--yes")
    assert ann.code("vault", "list") in ("invalid_client", "AuthenticationFailed")
    rows = world.ask("client", "list")
    assert [row["properties"]["disabledAt"] != "" for row in rows if row["name"] == name] == [True]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("role", "assign", "Backup Reader", "--client", "nobody", *HERE), "PrincipalNotFound"),
        (
            ("role", "assign", "King", "--client", "administrator", *HERE),
            "RoleDefinitionDoesNotExist",
        ),
        (("role", "assign", "Backup Reader", "--client", "administrator"), "InvalidUsage"),
        (("client", "delete", "administrator", "--yes"), "CannotDisableYourself"),
        (("client", "show", "nobody"), "ClientNotFound"),
    ],
)
def test_what_is_refused(world: World, words: tuple[str, ...], code: str) -> None:
    answer = world.cli(*words)
    assert answer.code == (2 if code == "InvalidUsage" else 1)
    assert f"code: {code}" in answer.err


def test_no_secret_is_made_without_a_file_to_keep_it(world: World, tmp_path: Path) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("the secret of somebody else")
    for target, code in ((taken, "FileExists"), (tmp_path / "no" / "folder.json", "FileError")):
        answer = world.cli("client", "create", "unkept", "-o", target)
        assert f"code: {code}" in answer.err
    assert taken.read_text() == "the secret of somebody else"
    assert "ClientNotFound" in world.cli("client", "show", "unkept").err
