"""What the agent's own pipeline wrote, read back by the independent decoder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.testing.files_vault import PASSPHRASE, FilesVault
from holdfast.testing.ports import SeededRandom

DECODER = Path(__file__).parents[2] / "tools" / "vault_decoder.py"
Facts = dict[str, tuple[object, ...]]


def make_tree(top: Path) -> None:
    rng = SeededRandom(4)
    (top / "deep/er").mkdir(parents=True)
    for number in range(300):
        (top / "deep" / f"small-{number:03d}").write_bytes(rng.token(10 * number))
    (top / "deep/er/large").write_bytes(rng.token(3_000_000) + b"again " * 500_000)
    with (top / "sparse").open("wb") as file:
        file.write(b"a" * 300_000)
        file.seek(8 << 20)
        file.write(rng.token(400_000))
        file.truncate(12 << 20)
    (top / "all-hole").touch()
    os.truncate(top / "all-hole", 5_000_000)
    (top / "empty").touch()
    os.link(top / "deep/small-200", top / "second-name")
    (top / "link").symlink_to("deep/er")
    os.mkfifo(top / "pipe")
    (top / "deep").chmod(0o750)
    os.utime(top / "deep", ns=(1, 1_234_567_890_123_456_789))


def facts_of(top: Path) -> Facts:
    """All that is compared: type, mode, mtime, links, content, by path below ``top``."""
    found: Facts = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        content: object = b""
        if path.is_symlink():
            content = str(path.readlink())
        elif stat.S_ISREG(info.st_mode):
            content = path.read_bytes()
        links = 1 if stat.S_ISDIR(info.st_mode) else info.st_nlink
        mode = 0 if path.is_symlink() else info.st_mode
        found[str(path.relative_to(top))] = (mode, info.st_mtime_ns, links, content)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    top.mkdir()
    make_tree(top)
    return top


def decode(vault: Path, key: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(DECODER), words[0], "--path", str(vault), "--key", str(key),
         *words[1:]],
        env={"HOLDFAST_PASSPHRASE": PASSPHRASE}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_decoder_restores_what_the_agent_backed_up(source: Path, tmp_path: Path) -> None:
    made = FilesVault(tmp_path / "vault")
    first = made.back_up(source)
    before = facts_of(source)
    key = tmp_path / "vault.key"
    key.write_bytes(made.vault.export_key(PASSPHRASE))
    (source / "deep/small-007").unlink()
    (source / "deep/added").write_bytes(b"added")
    made.back_up(source)
    after = facts_of(source)
    folder = tmp_path / "vault" / "store"
    assert decode(folder, key, "check").returncode == 0
    for rp_id, expected in ((first.recovery_point_id, before), (made.latest(), after)):
        target = tmp_path / rp_id
        done = decode(folder, key, "restore", "--recovery-point", rp_id, "--to", str(target))
        assert (done.returncode, done.stderr) == (0, "")
        restored = target / str(source).lstrip("/")
        assert facts_of(restored) == expected
        sparse = (restored / "sparse").stat()
        assert sparse.st_blocks * 512 < sparse.st_size / 2
