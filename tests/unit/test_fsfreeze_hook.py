"""The hook that runs pre- and post-scripts in a guest, run here by the system's own shell."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast import guest_files

NONCE = "0123456789abcdef"


@dataclass
class Guest:
    """A folder that stands for the places of a guest the hook looks at."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def ran(self) -> list[str]:
        """What scripts wrote, in order."""
        path = self.root / "ran"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def report(self) -> dict[str, str]:
        text = (self.root / "run" / "holdfast.report").read_text()
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def ask(self, scripts: str = "yes") -> None:
        text = f"nonce={NONCE}\nscripts={scripts}\nthaw_after=0\n"
        (self.root / "run" / "holdfast.request").write_text(text)

    def script(self, name: str, body: str = "", mode: int = 0o700) -> Path:
        path = self.root / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.root}/ran\n{body}\n')
        path.chmod(mode)
        return path

    def configure(self, **changes: Any) -> None:
        values = {**json.loads(guest_files.content(guest_files.CONFIG)), **changes}
        self.write_config(json.dumps(values, indent=1))

    def write_config(self, text: str) -> None:
        self.config.write_text(text)
        self.config.chmod(0o600)

    def call(self, word: str) -> int:
        environment = {
            **os.environ,
            "HOLDFAST_SCRIPT_CONFIG": str(self.config),
            "HOLDFAST_HOOKS": str(self.root / "hooks.d"),
            "HOLDFAST_RUN": str(self.root / "run"),
        }
        words = ["sh", str(self.root / "hook"), word]
        return subprocess.run(words, env=environment, check=False, timeout=60).returncode


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    (tmp_path / "run").mkdir()
    (tmp_path / "hooks.d").mkdir()
    (tmp_path / "hook").write_bytes(guest_files.content(guest_files.HOOK))
    made = Guest(tmp_path)
    made.ask()
    return made


@pytest.fixture
def configured(guest: Guest) -> Callable[..., Guest]:
    """A guest with both scripts, and changes to the configuration."""

    def make(pre: str = "", post: str = "", **changes: Any) -> Guest:
        before, after = guest.script("before", pre), guest.script("after", post)
        names = {"preScriptLocation": str(before), "postScriptLocation": str(after)}
        guest.configure(**{**names, **changes})
        return guest

    return make


def test_without_scripts_the_guest_is_just_frozen(guest: Guest) -> None:
    assert guest.call("freeze") == 0
    assert guest.report == {"nonce": NONCE}
    assert guest.call("thaw") == 0


def test_scripts_run_around_the_freeze_with_their_parameters(
    configured: Callable[..., Guest],
) -> None:
    guest = configured(preScriptParams=["it's", 'a "b"', "$(id)"], postScriptParams=["x"])
    assert guest.call("freeze") == 0
    assert guest.ran == ['before it\'s a "b" $(id)']
    assert guest.call("thaw") == 0
    assert guest.ran[1:] == ["after x"]
    assert guest.report == {"nonce": NONCE, "pre": "ok", "post": "ok"}
    assert guest.call("thaw") == 0
    assert len(guest.ran) == 2, "the post-script runs once for each freeze"


def test_no_scripts_when_the_host_does_not_want_them(configured: Callable[..., Guest]) -> None:
    guest = configured()
    guest.ask(scripts="no")
    assert (guest.call("freeze"), guest.call("thaw")) == (0, 0)
    assert guest.ran == []
    assert guest.report == {"nonce": NONCE}


@pytest.mark.parametrize(("go_on", "code"), [(True, 0), (False, 3)])
def test_a_pre_script_that_fails(configured: Callable[..., Guest], go_on: bool, code: int) -> None:
    guest = configured("exit 7", continueBackupOnFailure=go_on, preScriptNoOfRetries=2)
    assert guest.call("freeze") == code
    assert guest.ran == ["before"] * 3 + ["after"], "retried, then the application goes on"
    assert guest.report["code"] == "Pre-ScriptExecutionFailed"
    assert guest.report["detail"].endswith("ended with exit code 7")
    assert guest.report["go_on"] == str(go_on).lower()
    guest.call("thaw")
    assert guest.ran.count("after") == 1


def test_a_retry_that_succeeds_is_good(configured: Callable[..., Guest]) -> None:
    once = '[ "$(grep -c before "${0%/*}/ran")" -gt 1 ]'
    guest = configured(once, preScriptNoOfRetries=1)
    assert guest.call("freeze") == 0
    assert guest.report["pre"] == "ok"


def test_a_script_that_takes_too_long_is_ended_with_all_it_started(
    configured: Callable[..., Guest],
) -> None:
    guest = configured("sleep 300 & echo $! > ${0%/*}/child; wait", timeoutInSeconds=1)
    assert guest.call("freeze") == 0
    assert guest.report["code"] == "Pre-ScriptTimeout"
    child = int((guest.root / "child").read_text())
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text()


def test_a_post_script_that_fails_is_reported(configured: Callable[..., Guest]) -> None:
    guest = configured(post="exit 1", postScriptNoOfRetries=1, continueBackupOnFailure=False)
    assert (guest.call("freeze"), guest.call("thaw")) == (0, 0)
    assert guest.ran == ["before", "after", "after"]
    assert guest.report["post"] == "failed"
    assert guest.report["code"] == "Post-ScriptExecutionFailed"
    assert guest.report["go_on"] == "false"


def test_no_freeze_when_the_configuration_says_so(configured: Callable[..., Guest]) -> None:
    guest = configured(fsFreezeEnabled=False)
    assert guest.call("freeze") == 4
    assert guest.report["pre"] == "ok"
    assert guest.call("thaw") == 0
    assert guest.ran == ["before", "after"]


@pytest.mark.parametrize(
    ("which", "mode", "code"),
    [
        ("config", 0o644, "IncorrectJSONConfigFile"),
        ("config", 0o700, "IncorrectJSONConfigFile"),
        ("before", 0o755, "InsufficientPermissionforPre-Script"),
        ("before", 0o600, "InsufficientPermissionforPre-Script"),
        ("after", 0o770, "InsufficientPermissionforPost-Script"),
    ],
)
def test_wrong_permissions_run_nothing_and_stop_no_backup(
    configured: Callable[..., Guest], which: str, mode: int, code: str
) -> None:
    guest = configured(continueBackupOnFailure=False)
    (guest.config if which == "config" else guest.root / which).chmod(mode)
    assert (guest.call("freeze"), guest.call("thaw")) == (0, 0)
    assert guest.ran == []
    assert guest.report["code"] == code


@pytest.mark.needs_root
def test_a_script_of_another_user_does_not_run(configured: Callable[..., Guest]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: a file is given to another user")
    guest = configured()
    os.chown(guest.root / "before", 12345, 0)
    assert guest.call("freeze") == 0
    assert guest.ran == []
    assert guest.report["code"] == "InsufficientPermissionforPre-Script"


@pytest.mark.parametrize(
    ("missing", "code"), [("before", "Pre-ScriptNotFound"), ("after", "Post-ScriptNotFound")]
)
def test_a_script_that_is_not_there(
    configured: Callable[..., Guest], missing: str, code: str
) -> None:
    guest = configured(continueBackupOnFailure=False)
    (guest.root / missing).unlink()
    assert guest.call("freeze") == 3
    assert guest.ran == [], "the application is not stopped when it could not be started again"
    assert guest.report["code"] == code


def test_a_link_is_no_script(configured: Callable[..., Guest]) -> None:
    guest = configured()
    (guest.root / "before").rename(guest.root / "real")
    (guest.root / "before").symlink_to(guest.root / "real")
    guest.call("freeze")
    assert guest.ran == []
    assert guest.report["code"] == "InsufficientPermissionforPre-Script"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it must be one JSON object"),
        ('{"pluginName": "Other"}', "pluginName must be ScriptRunner"),
        ('{"preScriptLocation": "pre.sh"}', "preScriptLocation must be an absolute path"),
        ('{"preScriptLocation": 3}', "a text in quotes is expected"),
        ('{"preScriptParams": "x"}', "preScriptParams must be a list of texts"),
        ('{"timeoutInSeconds": 0}', "timeoutInSeconds must be a number from 1 to 1800"),
        ('{"timeoutInSeconds": 1801}', "timeoutInSeconds must be a number from 1 to 1800"),
        ('{"preScriptNoOfRetries": -1}', "preScriptNoOfRetries must be a number"),
        ('{"ScriptsExecutionPollTimeSeconds": 6}', "must be a number from 1 to 5"),
        ('{"fsFreezeEnabled": "yes"}', "fsFreezeEnabled must be true or false"),
        ('{"continueBackupOnFailure": 1}', "continueBackupOnFailure must be true or false"),
        ('{"shell": "x"}', "shell is not known"),
        ('{"pluginName": "ScriptRunner", "pluginName": "ScriptRunner"}', "is given twice"),
        ('{"pluginName": "ScriptRunner"} x', "something follows the closing brace"),
        ('{"pluginName": "ScriptRunner"', "a closing brace or a comma is missing"),
        ('{"preScriptLocation": "/a', "a text goes over the end of its line"),
        ('{"preScriptLocation": "/\\u0041"}', "write characters as they are"),
    ],
)
def test_a_wrong_configuration_runs_nothing_and_is_explained(
    configured: Callable[..., Guest], text: str, said: str
) -> None:
    guest = configured()
    guest.write_config(text)
    assert (guest.call("freeze"), guest.call("thaw")) == (0, 0)
    assert guest.ran == []
    assert guest.report["code"] == "IncorrectJSONConfigFile"
    assert said in guest.report["detail"]


def test_executables_of_the_hooks_folder_take_part(guest: Guest) -> None:
    guest.script("hooks.d/10-database")
    guest.script("hooks.d/20-ignored.bak")
    guest.script("hooks.d/30-not-executable", mode=0o600)
    assert (guest.call("freeze"), guest.call("thaw")) == (0, 0)
    assert guest.ran == ["hooks.d/10-database freeze", "hooks.d/10-database thaw"]
    assert guest.report["hooks"] == "ok"


def test_one_of_them_that_fails_prevents_the_freeze(configured: Callable[..., Guest]) -> None:
    guest = configured()
    guest.script("hooks.d/10-database", '[ "$1" = thaw ]')
    assert guest.call("freeze") == 5
    assert guest.report["code"] == "HookFailed"
    assert guest.ran[-1] == "after", "what the pre-script began is ended"


def test_an_unknown_word_is_refused(guest: Guest) -> None:
    assert guest.call("melt") == 2
