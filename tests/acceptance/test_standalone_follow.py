"""`store restore` shows how far it is, stops on Ctrl-C, and goes on when it is typed again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.disks_vault import DisksVault
from holdfast.testing.files_vault import PASSPHRASE, FilesVault
from holdfast.testing.program_kills import restored_like
from holdfast.testing.wait import eventually
from holdfast.workloads.vm.disks.raw_file import RawFileSource
from holdfast.workloads.vm.disks.values import DiskInput

MIB = 1 << 20
FILES, FILE_BYTES = 400, 300_000
DISK_BYTES = (120 * MIB, 40 * MIB)


class Standalone:
    """The command, on a vault below ``folder``."""

    def __init__(self, folder: Path, item: str) -> None:
        self.out = folder / "out"
        program = Path(sys.executable).with_name("holdfast")
        store = ["--path", str(folder / "vault" / "store"), "--key", str(folder / "key")]
        where = ["--item", item, "--recovery-point", "latest", "--to", str(self.out)]
        self.words = [str(program), "store", "restore", *store, *where]
        self.environment = {**os.environ, "HOLDFAST_PASSPHRASE": PASSPHRASE}

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words, env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def stop_at(self, bytes_there: int) -> str:
        """Ctrl-C when so much has been written; what the command said."""
        running = self.start()
        eventually(lambda: written(self.out) >= bytes_there, "some of it", every=0.005)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
        assert running.returncode == 1, out + err
        assert "Traceback" not in err
        return err

    def finish(self) -> str:
        running = self.start()
        out, err = running.communicate(timeout=120)
        assert running.returncode == 0, out + err
        return out


def written(folder: Path) -> int:
    """Bytes that files below it take."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Standalone]:
    noise = random.Random(4)
    (tmp_path / "src").mkdir()
    for number in range(FILES):
        (tmp_path / "src" / f"file-{number}").write_bytes(noise.randbytes(FILE_BYTES))
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(tmp_path / "src")
    (tmp_path / "key").write_bytes(vault.vault.export_key(PASSPHRASE))
    yield Standalone(tmp_path, "docs")


def test_files_go_on_after_ctrl_c(files: Standalone, tmp_path: Path) -> None:
    said = files.stop_at(FILES * FILE_BYTES // 4)
    assert "code: OperationCancelled" in said
    assert "give the same command again" in said
    there = {path.name: path.stat().st_ino for path in files.out.rglob("file-*")}
    assert 0 < len(there) < FILES
    told = files.finish()
    assert f"{FILES} files restored" in told
    kept = [n for n, one in there.items() if next(files.out.rglob(n)).stat().st_ino == one]
    assert kept, "what was settled is not written again"
    assert restored_like(tmp_path / "src", files.out, owners=os.geteuid() == 0).lines == []
    assert not list(files.out.glob(".holdfast-restore-*"))


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Standalone]:
    noise = random.Random(5)
    sources = []
    for lun, size in enumerate(DISK_BYTES):
        (tmp_path / str(lun)).write_bytes(noise.randbytes(size))
        sources.append(RawFileSource(tmp_path / str(lun)))
    vault = DisksVault(tmp_path / "vault")
    vault.back_up(
        *(
            DiskInput(lun=lun, source=one, identity=str(lun), grid_exponent=20)
            for lun, one in enumerate(sources)
        ),
        machine={"name": "web"},
        consistency="CrashConsistent",
    )
    for one in sources:
        one.close()
    (tmp_path / "key").write_bytes(vault.vault.export_key(PASSPHRASE))
    yield Standalone(tmp_path, "web")


def test_disks_go_on_after_ctrl_c(disks: Standalone, tmp_path: Path) -> None:
    said = disks.stop_at(DISK_BYTES[0] // 4)
    assert "give the same command again" in said
    part = disks.out / ".disk-0.raw.part"
    there = part.stat()
    assert there.st_blocks * 512 >= DISK_BYTES[0] // 4
    disks.finish()
    for lun in (0, 1):
        assert (disks.out / f"disk-{lun}.raw").read_bytes() == (tmp_path / str(lun)).read_bytes()
    assert (disks.out / "disk-0.raw").stat().st_ino == there.st_ino, "it went on in the same image"
    assert sorted(os.listdir(disks.out)) == ["disk-0.raw", "disk-1.raw", "machine.json"]
