"""Machines in the agent's settings: read with their defaults, and refused in clear words."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import machine_settings
from holdfast.errors import UsageError
from holdfast.settings import FILE_NAME, load_agent_settings

GOOD = """
[[machine]]
name = "web1"
uuid = "0D9A1F52-6F5C-4D1C-9A3D-0F8A4F6B7C10"
qmp = "/run/web1/backup.sock"
agent = "/run/web1/agent.sock"
[[machine.disk]]
path = "/vm/web1/root.qcow2"
[[machine.disk]]
path = "/vm/web1/data.img"
format = "raw"
"""


def _load(folder: Path, text: str) -> object:
    (folder / FILE_NAME).write_text(text)
    return load_agent_settings(folder, {})


def test_a_machine_is_read_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(GOOD)
    (machine,) = load_agent_settings(tmp_path, {}).machine
    assert machine.id == "0d9a1f52-6f5c-4d1c-9a3d-0f8a4f6b7c10"
    assert machine.luns == [-1, 0]
    assert [disk.format for disk in machine.disk] == ["qcow2", "raw"]
    assert (machine.scratch_percent, machine.freeze_seconds) == (20, 60)


def test_no_machines_is_fine(tmp_path: Path) -> None:
    assert load_agent_settings(tmp_path, {}).machine == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "web1"', 'name = "../x"', "name must be 1 to 63"),
        ('uuid = "0D9A1F52-6F5C-4D1C-9A3D-0F8A4F6B7C10"', 'uuid = "x"', "'x' is no UUID"),
        ('qmp = "/run/web1/backup.sock"', 'qmp = "backup.sock"', "qmp must be the absolute path"),
        ('qmp = "/run/web1/backup.sock"', f'qmp = "/{"a" * 107}"', "longer than the 107 bytes"),
        ('qmp = "/run/web1/backup.sock"', "", "missing required field `qmp`"),
        ('"/run/web1/agent.sock"', '"/run/web1/backup.sock"', "are the same socket"),
        ('format = "raw"', 'format = "vmdk"', "Invalid enum value 'vmdk'"),
        ('format = "raw"', "lun = -1", "two disks have the same lun"),
        ('format = "raw"', "lun = 99", "lun must be -1 (operating system) or from 0 to 63"),
        ('format = "raw"', "speed = 1", "unknown field `speed`"),
        ('path = "/vm/web1/data.img"', 'path = "data.img"', "'data.img' must be absolute"),
        (
            'path = "/vm/web1/data.img"',
            'path = "/vm/x/../web1/root.qcow2"',
            "is a disk of web1 and",
        ),
        ("[[machine.disk]]", "scratch_percent = 0\n[[machine.disk]]", "must be from 1 to 100"),
        ("[[machine.disk]]", 'scratch = "here"\n[[machine.disk]]', "scratch must be an absolute"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError) as caught:
        _load(tmp_path, GOOD.replace(old, new, 1))
    assert said in caught.value.message
    assert caught.value.code == "InvalidSettings"


def test_two_machines_may_share_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        _load(tmp_path, GOOD + GOOD.replace("web1/data", "web2/data"))
    said = caught.value.message
    assert "two machines are named web1" in said
    assert "/vm/web1/root.qcow2 is a disk of web1 and of web1" in said
    with pytest.raises(UsageError) as again:
        _load(tmp_path, GOOD + GOOD.replace("web1", "web2"))
    assert "machines web1 and web2 have the same uuid" in again.value.message


def test_machines_are_not_read_from_the_environment(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_agent_settings(tmp_path, {"HOLDFAST_MACHINE": "web1"})
    assert "HOLDFAST_MACHINE is no setting" in caught.value.message


def test_a_place_where_nobody_may_look_holds_no_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain user's agent meets /run/libvirt closed; root only meets names no place can have."""
    monkeypatch.setattr(machine_settings, "LIBVIRT_SOCKETS", ("/" + "x" * 300,))
    assert machine_settings.default_libvirt() == ""
