"""People log in and out from the command line, by password, by a code in a browser, with an
authenticator app and at their OpenID provider."""

from __future__ import annotations

import base64
import hmac
import json
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.browser import Browser, sign_in_by_code, web_browser
from holdfast.testing.openid_provider import openid_provider, sign_in_there
from holdfast.testing.world import GROUP, VAULT, Answer, World

HERE = ("-g", GROUP, "-v", VAULT)
PASSWORD, OTHER = "correct horse battery", "staple gun paper clip"


class Shell:
    """Somebody's own profile on the same machine."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.url, self.ca = f"https://127.0.0.1:{world.port}", world.server_data / "ca.pem"
        self.environment = {**world.environment, "HOLDFAST_CONFIG_DIR": str(folder)}

    def run(self, *words: str | Path) -> Answer:
        before = self.world.environment
        self.world.environment = self.environment
        try:
            return self.world.cli(*words)
        finally:
            self.world.environment = before

    def log_in(self, *words: str | Path) -> Answer:
        return self.run("login", "--server", self.url, "--ca", self.ca, *words)

    @contextmanager
    def code_shown(self) -> Iterator[str]:
        """Log in by device code: the code it shows. At the end it must have logged in."""
        words = ["login", "--server", self.url, "--ca", str(self.ca), "--device-code"]
        program = subprocess.Popen(
            [str(self.world.program), *words], env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert program.stderr is not None
        told = program.stderr.readline()
        code = re.search(r"code ([A-Z]{4}-[A-Z]{4})", told)
        assert code is not None, told
        try:
            yield code[1]
            out, err = program.communicate(timeout=30)
        finally:
            program.kill()
        assert (program.returncode, "logged in" in out) == (0, True), err

    def browser(self) -> Browser:
        return web_browser(self.url, str(self.ca))

    @property
    def profile(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "profile.json").read_text())
        return found


def code_of_app(secret: str, at: float) -> str:
    """What an authenticator app shows (RFC 6238): six digits of SHA-1, a new one every 30 s."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.digest(key, int(at // 30).to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


@pytest.fixture
def ann(world: World, tmp_path: Path) -> tuple[Shell, str, Path]:
    """Ann with a role at the vault; her shell, her name, and the file with her password."""
    name, file = f"ann-{tmp_path.name}", tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    world.ok("user", "create", name, "--display-name", "Ann", "--password-file", file)
    world.ok("role", "assign", "Backup Reader", "--user", name, *HERE)
    return Shell(world, tmp_path / "profile"), name, file


def test_a_person_logs_in_by_password_and_out(ann: tuple[Shell, str, Path]) -> None:
    shell, name, file = ann
    assert shell.log_in("--user", name, "--password-file", file).code == 0
    assert PASSWORD not in (shell.folder / "profile.json").read_text()
    assert stat.S_IMODE((shell.folder / "profile.json").stat().st_mode) == 0o600
    assert VAULT in shell.run("vault", "list").out
    assert "AuthorizationFailed" in shell.run("user", "list").err
    first = shell.profile["refresh_token"]
    (shell.folder / "token.json").unlink()  # as after an hour
    assert VAULT in shell.run("vault", "list").out
    kept = shell.profile["refresh_token"]
    assert kept != first
    assert shell.run("logout").code == 0
    assert "NotLoggedIn" in shell.run("vault", "list").err
    assert kept not in (shell.folder / "profile.json").read_text()
    assert shell.run("login", "--user", name, "--password-file", file).code == 0, "same server"


def test_a_changed_password_ends_the_session(
    world: World, ann: tuple[Shell, str, Path], tmp_path: Path
) -> None:
    shell, name, file = ann
    shell.log_in("--user", name, "--password-file", file)
    fresh = tmp_path / "fresh"
    fresh.write_text(OTHER)
    words = ("user", "change-password", "--password-file", file, "--new-password-file", fresh)
    assert shell.run(*words).code == 0
    refused = shell.run("vault", "list")
    assert "invalid_grant" in refused.err and "holdfast login" in refused.err
    assert "invalid_grant" in shell.log_in("--user", name, "--password-file", file).err
    assert shell.log_in("--user", name, "--password-file", fresh).code == 0
    world.ok("user", "end-sessions", name)
    assert shell.run("vault", "list").code == 1


def test_a_person_logs_in_by_a_code_in_a_browser(
    world: World, ann: tuple[Shell, str, Path]
) -> None:
    shell, name, _ = ann
    with shell.code_shown() as code:
        said = sign_in_by_code(shell.url, str(shell.ca), code, name, PASSWORD)
        assert f"goes on as {name}" in said
    assert VAULT in shell.run("vault", "list").out


def test_an_authenticator_app_is_asked_for(world: World, ann: tuple[Shell, str, Path]) -> None:
    shell, name, file = ann
    shown = world.ok("user", "enable-totp", name).out
    assert f"otpauth://totp/Holdfast%3A{name}?secret=" in shown
    refused = shell.log_in("--user", name, "--password-file", file)
    assert "interaction_required" in refused.err
    rows = {row["name"]: row["properties"] for row in world.ask("user", "list")}
    assert rows[name]["hasTotp"] is True
    secret = re.search(r"secret=([A-Z2-7]+)", shown)
    assert secret is not None
    with shell.code_shown() as code:
        person = shell.browser()
        person.open("/adfs/oauth2/deviceauth")
        person.submit(user_code=code)
        assert "needs a code" in person.submit("allow", username=name, password=PASSWORD)
        told = person.submit("allow", password=PASSWORD, totp=code_of_app(secret[1], time.time()))
        assert f"goes on as {name}" in told
    assert VAULT in shell.run("vault", "list").out
    world.ok("user", "disable-totp", name)
    assert shell.log_in("--user", name, "--password-file", file).code == 0
    world.ok("user", "delete", name, "--yes")
    assert shell.run("vault", "list").code == 1


def test_a_person_of_an_openid_provider_logs_in(tmp_path: Path) -> None:
    """The program, the server and the provider are each a process of their own."""
    secret = tmp_path / "secret"
    secret.write_text("our secret\n")
    with openid_provider("ann", "bob") as issuer:
        given = {"ISSUER": issuer, "CLIENT_ID": "holdfast", "NAME": "The Office"}
        given["CLIENT_SECRET_FILE"] = str(secret)
        world = World(tmp_path, {f"HOLDFAST_OIDC_{key}": value for key, value in given.items()})
        try:
            world.start_server()
            world.login()
            world.ok("user", "create", "ann", "--external")
            world.ok("role", "assign", "Reader", "--user", "ann", "--everywhere")
            shell = Shell(world, tmp_path / "her-profile")
            with shell.code_shown() as code:
                assert "nobody here is bob" in from_the_provider(shell, code, "bob-1").lower()
                assert "goes on as ann" in from_the_provider(shell, code, "ann-1")
            assert shell.run("vault", "list").code == 0
            assert "AuthorizationFailed" in shell.run("user", "list").err
        finally:
            world.close()


def from_the_provider(shell: Shell, code: str, subject: str) -> str:
    """A browser with the program's code goes to the provider and comes back; the last page."""
    person = shell.browser()
    person.open("/adfs/oauth2/deviceauth")
    assert "Sign in with The Office" in person.submit(user_code=code)
    form = {"form": person.fields["form"], "user_code": code}
    person.post("/adfs/oauth2/external", form)
    return person.open(sign_in_there(person.links[0], subject))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("user", "create", "bob"), "PasswordMissing"),
        (("user", "show", "nobody"), "UserNotFound"),
        (("user", "create", "bob", "--external"), "ProviderMissing"),
        (("user", "create", "bob", "--subject", "bob-1"), "ProviderMissing"),
        (("login", "--user", "a", "--device-code"), "InvalidUsage"),
        (("login", "--user", "a", "--server", "https://127.0.0.2:1"), "InvalidUsage"),
    ],
)
def test_what_is_refused(world: World, words: tuple[str, ...], code: str) -> None:
    assert f"code: {code}" in world.cli(*words).err
