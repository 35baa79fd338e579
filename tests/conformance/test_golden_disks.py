"""Every released format's disks stay readable: by the package and by the decoder alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.key_vault import FolderKeyVault
from holdfast.adapters.object_store.local import LocalStore
from holdfast.vaultstore.disk_pages import BlockState
from holdfast.workloads.files.standalone import ReaderSource, read_vault
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.standalone import restore_keys, restore_machine

GOLDEN = Path(__file__).parents[1] / "golden"
DECODER = Path(__file__).parents[2] / "tools" / "vault_decoder.py"
VERSIONS = sorted(path.parent.name for path in GOLDEN.glob("*/disks.json"))
KEYED = sorted(path.parent.name for path in GOLDEN.glob("*/keys.json"))
GUID = "601de700-0000-4000-8000-000000000011"
Points = dict[str, dict[str, dict[str, Any]]]


def points_of(version: str) -> Points:
    found: Points = json.loads((GOLDEN / version / "disks.json").read_text())
    return found


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A version, with a copy of its vault under ``tmp_path / GUID``."""
    name: str = request.param
    shutil.copytree(GOLDEN / name / "vault", tmp_path / GUID)
    return name


def compare(restored: Path, expected: dict[str, dict[str, Any]]) -> None:
    names = {path.name for path in restored.iterdir()}
    assert names == {*expected, "machine.json"}
    for name, facts in expected.items():
        data = (restored / name).read_bytes()
        assert len(data) == facts["size"]
        assert hashlib.sha256(data).hexdigest() == facts["sha256"], name
    described = json.loads((restored / "machine.json").read_text())
    assert described["machine"]["note"] == "größer als nötig"


def test_there_is_a_golden_vault_of_disks() -> None:
    assert "v1-disks" in VERSIONS
    assert "v1-keys" in KEYED


def test_the_package_restores_every_disk_of_a_golden_vault(version: str, tmp_path: Path) -> None:
    key, words = GOLDEN / version / "vault.key", (GOLDEN / version / "passphrase").read_text()
    reader = read_vault(LocalStore(tmp_path), key, words.strip())
    expected = points_of(version)
    records = reader.recovery_points()
    assert {record.rp_id for record in records} == expected.keys()
    for record in records:
        restore_machine(reader, record, tmp_path / record.rp_id)
        compare(tmp_path / record.rp_id, expected[record.rp_id])
    first = MachinePoint(ReaderSource(reader, records[0])).open(0)
    states = {run.state for run in first.runs(0, first.geometry.size)}
    assert states == {BlockState.UNALLOCATED, BlockState.ZERO, BlockState.DATA}
    assert reader.verify().damages == ()


@pytest.fixture(params=KEYED)
def keyed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The files of a version with keys, and for each point their values (hex) by NAME/VERSION."""
    files = GOLDEN / str(request.param)
    shutil.copytree(files / "vault", tmp_path / GUID)
    return files, json.loads((files / "keys.json").read_text())


def test_the_package_puts_the_keys_of_a_golden_vault_back(
    keyed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    files, expected = keyed
    words = (files / "passphrase").read_text().strip()
    reader = read_vault(LocalStore(tmp_path), files / "vault.key", words)
    assert {record.rp_id for record in reader.recovery_points()} == expected.keys()
    for record in reader.recovery_points():
        put = restore_keys(reader, record, FolderKeyVault(tmp_path / f"keys-{record.rp_id}"))
        found = {f"{one.name}/{one.version}": one.value.hex() for one in put}
        assert found == expected[record.rp_id]


def test_the_decoder_puts_the_keys_of_a_golden_vault_back(
    keyed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    files, expected = keyed
    for rp_id, values in expected.items():
        to, keys = tmp_path / f"disks-{rp_id}", tmp_path / f"keys-{rp_id}"
        done = subprocess.run(
            [sys.executable, "-I", str(DECODER), "restore", "--path", str(tmp_path / GUID),
             "--key", str(files / "vault.key"), "--passphrase-file", str(files / "passphrase"),
             "--recovery-point", rp_id, "--to", str(to), "--keys", str(keys)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        found = {f"{one.parent.name}/{one.name}": one for one in keys.glob("*/*")}
        assert {name: path.read_bytes().hex() for name, path in found.items()} == values


def test_the_decoder_restores_every_disk_of_a_golden_vault(version: str, tmp_path: Path) -> None:
    files = GOLDEN / version
    for rp_id, expected in points_of(version).items():
        target = tmp_path / rp_id
        done = subprocess.run(
            [sys.executable, "-I", str(DECODER), "restore", "--path", str(tmp_path / GUID),
             "--key", str(files / "vault.key"), "--passphrase-file", str(files / "passphrase"),
             "--recovery-point", rp_id, "--to", str(target)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        compare(target, expected)
