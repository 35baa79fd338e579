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

from holdfast.adapters.object_store.local import LocalStore
from holdfast.vaultstore.disk_pages import BlockState
from holdfast.workloads.files.standalone import ReaderSource, read_vault
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.standalone import restore_machine

GOLDEN = Path(__file__).parents[1] / "golden"
DECODER = Path(__file__).parents[2] / "tools" / "vault_decoder.py"
VERSIONS = sorted(path.parent.name for path in GOLDEN.glob("*/disks.json"))
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
