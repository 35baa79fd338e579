"""Whose keys are which, in the agent's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import UsageError
from holdfast.key_settings import KeyNamed, keys_by_machine
from holdfast.settings import FILE_NAME, AgentSettings, load_agent_settings

GOOD = """
[key_vault]
path = "/etc/holdfast/keys"
[[key_vault.machine]]
name = "db"
key = "db-all"
[[key_vault.machine.disk]]
lun = 0
key = "db-data/3"

[[machine]]
name = "web1"
uuid = "0D9A1F52-6F5C-4D1C-9A3D-0F8A4F6B7C10"
qmp = "/run/web1/backup.sock"
[[machine.disk]]
path = "/vm/web1/root.qcow2"
key = "web1"
[[machine.disk]]
path = "/vm/web1/data.img"
key = "web1"
"""


def load(folder: Path, text: str) -> AgentSettings:
    (folder / FILE_NAME).write_text(text)
    return load_agent_settings(folder, {})


def test_each_secret_once_with_the_disks_it_is_for(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert keys_by_machine(settings.key_vault, settings.machine) == {
        "web1": (KeyNamed(name="web1", luns=(-1, 0)),),
        "db": (KeyNamed(name="db-all"), KeyNamed(name="db-data", version="3", luns=(0,))),
    }


def test_no_key_vault_is_fine(tmp_path: Path) -> None:
    settings = load(tmp_path, "")
    assert keys_by_machine(settings.key_vault, settings.machine) == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('path = "/etc/holdfast/keys"', 'path = "keys"', "path must be absolute"),
        ('path = "/etc/holdfast/keys"', "", "missing required field `path`"),
        ('key = "web1"', 'key = "../web1"', "'../web1' is no name of a secret"),
        ('key = "db-data/3"', 'key = "db-data/x"', "'db-data/x' is no name of a secret"),
        ("lun = 0", "lun = 64", "from -1 to 63"),
        ('key = "db-all"', 'secret = "db-all"', "unknown field `secret`"),
        (
            "[[key_vault.machine.disk]]\nlun = 0",
            '[[key_vault.machine.disk]]\nlun = 0\nkey = "a"\n[[key_vault.machine.disk]]\nlun = 0',
            "two keys for the disk with LUN 0",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=said) as refused:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert refused.value.code == "InvalidSettings"


def test_a_key_needs_a_key_vault(tmp_path: Path) -> None:
    without = GOOD[GOOD.index("[[machine]]") :]
    with pytest.raises(UsageError, match=r"there is no \[key_vault\]"):
        load(tmp_path, without)
