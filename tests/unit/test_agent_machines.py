"""Machines of an agent's settings, and folders that restores make, without a hypervisor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from holdfast.adapters.disk_format.partial import PartialFile
from holdfast.agent.vm.definition import Definition, DiskFile
from holdfast.agent.vm.staging import free_name, publish, staged_folder
from holdfast.errors import ConflictError, TargetError
from holdfast.machine_settings import MachineEntry, problems

WITHOUT_LIBRARY = """
import sys
from pathlib import Path
sys.modules["qemu"] = None
from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.agent.hypervisors import find_vms
from holdfast.errors import UsageError
from holdfast.machine_settings import MachineDisk, MachineEntry
from holdfast.settings import AgentSettings
given = (Path("/nowhere"), SystemClock(), SystemRandom(), "host1")
assert find_vms(AgentSettings(libvirt="no"), *given) is None
entry = MachineEntry(name="a", uuid="u", qmp="/q", disk=[MachineDisk(path="/d")])
try:
    find_vms(AgentSettings(libvirt="no", machine=[entry]), *given)
except UsageError as error:
    print(error.code, error.hint)
"""

FILES_ONLY = """
import sys
from pathlib import Path
sys.modules["qemu"] = None
from holdfast import machine_settings
machine_settings.LIBVIRT_SOCKETS = (sys.executable,)
from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.agent.hypervisors import find_vms
from holdfast.errors import UsageError
from holdfast.settings import AgentSettings
given = (Path("/nowhere"), SystemClock(), SystemRandom(), "host1")
assert find_vms(AgentSettings(), *given) is None
try:
    find_vms(AgentSettings(libvirt="qemu:///system"), *given)
except UsageError as error:
    print(error.code)
"""


def test_a_libvirt_nobody_named_keeps_no_agent_from_its_files() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILES_ONLY], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "HypervisorSupportMissing"
    assert "holdfast[vm]" in done.stderr


AS_NOBODY = """
import os, sys
from holdfast import machine_settings
machine_settings.LIBVIRT_SOCKETS = (sys.argv[1],)
print(machine_settings.default_libvirt())
os.setresuid(65534, 65534, 65534)
print(machine_settings.default_libvirt())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which root can")
def test_a_libvirt_this_user_may_not_use_is_none(tmp_path: Path) -> None:
    """Also when its folder cannot even be entered."""
    folder = tmp_path / "libvirt"
    folder.mkdir(mode=0o700)
    (folder / "sock").touch()
    words = [sys.executable, "-c", AS_NOBODY, str(folder / "sock")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["qemu:///system", ""]


def test_machines_without_the_library_are_refused_with_a_hint() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBRARY], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("HypervisorSupportMissing")
    assert "holdfast[vm]" in done.stdout


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path, "web") as staged:
        (staged / "disk").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    left = tmp_path / ".web.holdfast.partial"
    left.mkdir()
    (left / "disk").write_text("of a killed run")
    with staged_folder(tmp_path, "web") as staged:
        assert list(staged.iterdir()) == []
        (staged / "disk").write_text("whole")
        with pytest.raises(ConflictError), staged_folder(tmp_path, "web"):
            pass
        publish(staged, tmp_path / "web")
    assert [path.name for path in tmp_path.iterdir()] == ["web"]
    assert (tmp_path / "web" / "disk").read_text() == "whole"
    assert free_name(tmp_path / "web").name == "web-2"


def test_what_killed_restores_left_goes_and_what_runs_or_is_no_restores_stays(
    tmp_path: Path,
) -> None:
    for name in (".gone-1.holdfast.partial", ".theirs.partial", "web.holdfast.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".disk-os.qcow2.x1.partial").write_text("half")
    with staged_folder(tmp_path, "first") as first:
        (first / "disk").write_text("whole")
        with staged_folder(tmp_path, "second"):
            left = {path.name for path in tmp_path.iterdir()}
        publish(first, tmp_path / "first")
    both = {".first.holdfast.partial", ".second.holdfast.partial"}
    assert left == {".theirs.partial", "web.holdfast.partial"} | both
    assert (tmp_path / "first" / "disk").read_text() == "whole"


def test_a_staged_folder_that_was_exchanged_leads_nowhere(tmp_path: Path) -> None:
    """Who owns the folder above can put another in the place of ours, with links in it."""
    treasure = tmp_path / "treasure"
    treasure.write_text("of root")
    before = treasure.stat()
    target = tmp_path / "vm"
    target.mkdir()
    if os.geteuid() == 0:
        os.chown(target, 65534, 65534)
    with staged_folder(target, "web") as staged:
        (name,) = target.iterdir()
        name.rename(target / "aside")
        name.mkdir()
        (name / "disk").symlink_to(treasure)
        (staged / "disk").write_text("of the machine")
        publish(staged, target / "web", target.stat())
    after = treasure.stat()
    assert (treasure.read_text(), after.st_uid, after.st_mode) == (
        "of root",
        before.st_uid,
        before.st_mode,
    )
    made = target / "web"
    assert (made / "disk").read_text() == "of the machine"
    assert {made.stat().st_uid, (made / "disk").stat().st_uid} == {target.stat().st_uid}


def test_errors_of_a_staged_folder_name_it_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as refused, staged_folder(tmp_path, "web") as staged:
        publish(staged / "nothing", tmp_path / "web")
    assert "/proc/" not in refused.value.message
    with pytest.raises(ConflictError) as there, staged_folder(tmp_path, "web") as staged:
        (staged / "disk").touch()
        PartialFile(staged / "disk")
    assert str(tmp_path / ".web.holdfast.partial" / "disk") in str(there.value)


def test_a_folder_needs_its_parent(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as missing, staged_folder(tmp_path / "none", "web"):
        pass
    assert missing.value.code == "TargetUnavailable"


def test_a_link_in_the_place_of_a_staged_folder_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / "file").touch()
    (tmp_path / ".web.holdfast.partial").symlink_to(target)
    with pytest.raises(TargetError), staged_folder(tmp_path, "web"):
        pass
    assert (target / "file").exists()


def test_a_definition_is_what_the_settings_take(tmp_path: Path) -> None:
    final = tmp_path / 'odd "name" \\ \x7f ü'
    disks = [DiskFile(-1, "disk-os.qcow2", "qcow2", 1 << 20), DiskFile(3, "disk-3.raw", "raw", 512)]
    uuid = "0d9a1f52-6f5c-4d1c-9a3d-0f8a4f6b7c10"
    described = {"processors": "many", "memoryBytes": -1, "firmware": "uefi", "disks": "none"}
    Definition("web2", uuid, "1", described, disks, final).write(tmp_path)
    settings = tomllib.loads((tmp_path / "machine.toml").read_text())["machine"]
    (entry,) = msgspec.convert(settings, list[MachineEntry])
    assert problems([entry]) == []
    assert entry.luns == [-1, 3]
    assert entry.disk[1].path == str(final / "disk-3.raw")
    document = json.loads((tmp_path / "machine.json").read_text())
    assert (document["processors"], document["memoryBytes"]) == (1, 1 << 30)
    assert any("UEFI" in note for note in document["notes"])
    (tmp_path / "vhd").mkdir()
    files = [DiskFile(-1, "disk-os.vhd", "vhd", 512)]
    Definition("web2", uuid, "1", {}, files, final).write(tmp_path / "vhd")
    assert not (tmp_path / "vhd" / "machine.toml").exists(), "machines do not run from it"


def test_a_definition_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    files = [DiskFile(-1, "disk-os.raw", "raw", 512)]
    folder = Path(os.fsdecode(b"/vm/caf\xe9"))
    Definition("web2", "0d9a1f52-6f5c-4d1c-9a3d-0f8a4f6b7c10", "1", {}, files, folder).write(
        tmp_path
    )
    (disk,) = json.loads((tmp_path / "machine.json").read_text())["disks"]
    assert os.fsencode(disk["path"]) == b"/vm/caf\xe9/disk-os.raw"
    assert not (tmp_path / "machine.toml").exists(), "TOML is text"
    with pytest.raises(TargetError):
        Definition("web2", "u", "1", {}, files, folder).write(tmp_path / "gone")
