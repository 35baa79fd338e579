"""Disks as sparse files into a vault, and back from its folder and key alone: by the command line
and by the independent decoder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import SourceError, TargetError
from holdfast.ports.block_device import ExtentKind
from holdfast.testing.disks_vault import DisksVault
from holdfast.testing.files_vault import PASSPHRASE
from holdfast.testing.ports import SeededRandom
from holdfast.workloads.vm.disks.raw_file import RawFileSource, RawFileTarget
from holdfast.workloads.vm.disks.values import DiskInput

DECODER = Path(__file__).parents[2] / "tools" / "vault_decoder.py"
MIB = 1 << 20


def write_image(path: Path, size: int, pieces: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images, vault and key; two points of a machine of two disks."""
    folder = tmp_path_factory.mktemp("disks")
    rng = SeededRandom(11)
    noise = rng.token(3 * MIB)
    write_image(folder / "0", 300 * MIB + 512, {0: noise, 170 * MIB + 99: noise[:-7]})
    write_image(folder / "1", 40 * MIB, {39 * MIB: b"end", 5 * MIB: bytes(2 * MIB)})
    vault = DisksVault(folder / "vault")
    back_up(vault, folder)
    os.link(folder / "0", folder / "before")
    (folder / "0").rename(folder / "old")
    write_image(folder / "0", 320 * MIB, {0: noise, 319 * MIB: b"grown", 3: b"changed"})
    back_up(vault, folder)
    (folder / "key").write_bytes(vault.vault.export_key(PASSPHRASE))
    return folder


def back_up(vault: DisksVault, folder: Path) -> None:
    sources = [RawFileSource(folder / str(lun)) for lun in (0, 1)]
    disks = [
        DiskInput(lun=lun, source=one, identity=str(lun), grid_exponent=18)
        for lun, one in enumerate(sources)
    ]
    vault.back_up(*disks, machine={"name": "web", "memoryMiB": 512}, consistency="CrashConsistent")
    for one in sources:
        one.close()


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "-s", one, other], check=False).returncode == 0


def call(place: Path, *words: str) -> tuple[int, str]:
    vault = ["--path", str(place / "vault" / "store"), "--key", str(place / "key")]
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli.main", *words, *vault],
        env={**os.environ, "HOLDFAST_PASSPHRASE": PASSPHRASE},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_command_line_restores_a_machines_disks(place: Path, tmp_path: Path) -> None:
    code, output = call(place, "store", "list")
    assert (code, "web" in output) == (0, True)
    where = ["--item", "web", "--recovery-point", "latest"]
    code, output = call(place, "store", "restore", *where, "--to", str(tmp_path / "to"))
    assert code == 0, output
    assert sorted(os.listdir(tmp_path / "to")) == ["disk-0.raw", "disk-1.raw", "machine.json"]
    for lun in (0, 1):
        restored = tmp_path / "to" / f"disk-{lun}.raw"
        assert same(restored, place / str(lun))
        assert restored.stat().st_blocks * 512 < 16 * MIB, "holes stay holes"
    found = json.loads((tmp_path / "to" / "machine.json").read_text())
    assert found["machine"] == {"name": "web", "memoryMiB": 512}
    assert [disk["size"] for disk in found["disks"]] == [320 * MIB, 40 * MIB]
    code, output = call(place, "store", "restore", *where, "--to", str(tmp_path / "to"))
    assert (code != 0, "exists" in output) == (True, True)


def test_some_disks_are_chosen_and_nonsense_is_refused(place: Path, tmp_path: Path) -> None:
    where = ["--item", "web", "--recovery-point", "latest", "--to", str(tmp_path / "to")]
    code, output = call(place, "store", "restore", *where, "--disk", "1")
    assert code == 0, output
    assert sorted(os.listdir(tmp_path / "to")) == ["disk-1.raw", "machine.json"]
    for more, told in ((["--disk", "7"], "no disk 7"), (["--only", "/etc"], "disks, not files")):
        code, output = call(place, "store", "restore", *where, *more)
        assert code != 0
        assert told in output
        assert "Traceback" not in output


def decode(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(DECODER), words[0], "--path", str(place / "vault" / "store"),
         "--key", str(place / "key"), *words[1:]],
        env={"HOLDFAST_PASSPHRASE": PASSPHRASE}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_decoder_restores_both_points(place: Path, tmp_path: Path) -> None:
    listed = decode(place, "list")
    points = [line.split()[0] for line in listed.stdout.splitlines()[1:]]
    assert decode(place, "check").returncode == 0
    for rp_id, image in zip(points, ("old", "0"), strict=True):
        target = tmp_path / rp_id
        done = decode(place, "restore", "--recovery-point", rp_id, "--to", str(target))
        assert (done.returncode, done.stderr) == (0, "")
        assert same(target / "disk-0.raw", place / image)
        assert same(target / "disk-1.raw", place / "1")
        assert (target / "disk-0.raw").stat().st_blocks * 512 < 16 * MIB
        assert json.loads((target / "machine.json").read_text())["version"] == 1


def test_the_decoder_names_the_blocks_it_cannot_read(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "vault", tmp_path / "vault")
    shutil.copy(place / "key", tmp_path / "key")
    for path in tmp_path.glob("vault/store/*/packs/*/*"):
        data = bytearray(path.read_bytes())
        if len(data) > MIB // 2:  # no pack of pages is so long
            for at in range(4096, len(data), 4096):
                data[at] ^= 1
            path.write_bytes(data)
    done = decode(tmp_path, "restore", "--recovery-point", "latest", "--to", str(tmp_path / "to"))
    assert done.returncode == 1
    assert "disk-0.raw: block" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "to" / "disk-0.raw").stat().st_size == 320 * MIB


# raw files


def test_a_raw_file_knows_its_holes(tmp_path: Path) -> None:
    write_image(tmp_path / "image", 8 * MIB, {3 * MIB: b"x" * MIB})
    source = RawFileSource(tmp_path / "image")
    runs = list(source.extents(MIB, 6 * MIB))
    assert [run.kind for run in runs] == [
        ExtentKind.UNALLOCATED,
        ExtentKind.DATA,
        ExtentKind.UNALLOCATED,
    ]
    assert (runs[0].offset, runs[-1].end) == (MIB, 7 * MIB)
    assert source.dirty(0, MIB) is None
    with pytest.raises(SourceError):
        source.read_into(8 * MIB - 1, memoryview(bytearray(2)))
    source.close()
    with pytest.raises(SourceError):
        RawFileSource(tmp_path / "missing")


def test_a_raw_target_is_written_once_and_stays_sparse(tmp_path: Path) -> None:
    target = RawFileTarget(tmp_path / "image", 4 * MIB)
    target.write(0, memoryview(b"a" * MIB + bytes(MIB) + b"b" * 100_000))
    target.write_zeroes(100, 1000)
    target.write_zeroes(3 * MIB, MIB)
    target.flush()
    target.close()
    content = (tmp_path / "image").read_bytes()
    expected = b"a" * 100 + bytes(1000) + b"a" * (MIB - 1100) + bytes(MIB) + b"b" * 100_000
    assert content == expected + bytes(4 * MIB - len(expected))
    assert (tmp_path / "image").stat().st_blocks * 512 < 1.5 * MIB
    with pytest.raises(TargetError):
        RawFileTarget(tmp_path / "image", 1)
