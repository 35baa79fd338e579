"""Every released format stays readable: golden vaults, by the package and by the decoder alone."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.object_store.local import LocalStore
from holdfast.errors import AccessError
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.vaultstore.layout import find_vaults
from holdfast.vaultstore.values import Unlock
from holdfast.vaultstore.vault import Vault

GOLDEN = Path(__file__).parents[1] / "golden"
DECODER = Path(__file__).parents[2] / "tools" / "vault_decoder.py"
VERSIONS = sorted(path.parent.name for path in GOLDEN.glob("*/inventory.json.gz"))
GUID = "601de700-0000-4000-8000-000000000001"
Inventory = dict[str, list[dict[str, Any]]]
SPECIAL = ("CHARACTER_DEVICE", "BLOCK_DEVICE")


def inventory_of(version: str) -> Inventory:
    found: Inventory = json.loads(
        gzip.decompress((GOLDEN / version / "inventory.json.gz").read_bytes())
    )
    return found


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A version, with a copy of its vault under ``tmp_path / GUID``."""
    name: str = request.param
    shutil.copytree(GOLDEN / name / "vault", tmp_path / GUID)
    return name


def test_there_is_a_golden_vault() -> None:
    assert "v1" in VERSIONS


# the package


def open_golden(version: str, store: LocalStore, passphrase: str | None = None) -> Vault:
    key_file = (GOLDEN / version / "vault.key").read_bytes()
    words = passphrase or (GOLDEN / version / "passphrase").read_text().strip()
    unlock = Unlock(key_file=key_file, passphrase=words)
    vault_id = find_vaults(store)[0]
    return Vault.open(store, vault_id, unlock, clock=MovableClock(), rng=SeededRandom(1))


def content_of(vault: Vault, rp_id: str, entry: Entry, chunks: dict[bytes, bytes]) -> bytes:
    whole = bytearray(entry.size)
    wanted = list({extent[0] for extent in entry.extents} - chunks.keys())
    chunks.update(zip(wanted, map(bytes, vault.fetch(rp_id, wanted)), strict=True))
    for chunk_id, offset, at, length in entry.extents:
        whole[at : at + length] = chunks[chunk_id][offset : offset + length]
    return bytes(whole)


def row_of(vault: Vault, rp_id: str, path: bytes, entry: Entry, chunks: dict[bytes, bytes]) -> Any:
    kind = EntryType(entry.type)
    row: dict[str, Any] = {
        "path": os.fsdecode(path),
        "type": kind.name,
        "mode": entry.mode,
        "mtime_ns": entry.mtime_ns,
        "uid": entry.uid,
        "gid": entry.gid,
    }
    if kind is EntryType.FILE:
        digest = hashlib.sha256(content_of(vault, rp_id, entry, chunks)).hexdigest()
        row |= {"size": entry.size, "sha256": digest}
    optional = {
        "target": os.fsdecode(entry.link_target),
        "group": entry.link_group,
        "rdev": entry.rdev,
        "xattrs": {name.decode(): value.hex() for name, value in entry.xattrs.items()},
    }
    return row | {name: value for name, value in optional.items() if value}


def test_the_package_reads_every_point_of_a_golden_vault(version: str, tmp_path: Path) -> None:
    vault = open_golden(version, LocalStore(tmp_path))
    inventory = inventory_of(version)
    assert {point.rp_id for point in vault.recovery_points()} == inventory.keys()
    chunks: dict[bytes, bytes] = {}
    for rp_id, expected in inventory.items():
        found = [
            row_of(vault, rp_id, path + b"/" + entry.name if path else entry.name, entry, chunks)
            for path, entries in vault.file_tree(rp_id).walk()
            for entry in entries
        ]
        assert sorted(found, key=lambda row: os.fsencode(row["path"])) == expected
        root = vault.root(rp_id)
        assert (root.owners[1000], root.findings[0].code) == ("someone", "SocketSkipped")
    report = vault.verify()
    assert (report.damages, report.recovery_points) == ((), len(inventory))


def test_a_wrong_passphrase_opens_no_golden_vault(version: str, tmp_path: Path) -> None:
    with pytest.raises(AccessError):
        open_golden(version, LocalStore(tmp_path), "not the passphrase")


# the decoder


def decode(version: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    files = GOLDEN / version
    return subprocess.run(
        [sys.executable, "-I", str(DECODER), words[0], "--path", str(folder / GUID),
         "--key", str(files / "vault.key"), "--passphrase-file", str(files / "passphrase"),
         *words[1:]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def compare(restored: Path, expected: list[dict[str, Any]]) -> None:
    """Every attribute on disk against the inventory; nothing more, nothing less."""
    found = {
        os.fsdecode(os.path.relpath(os.path.join(folder, name), os.fsencode(restored)))
        for folder, folders, files in os.walk(os.fsencode(restored))
        for name in (*folders, *files)
    }
    wanted = [row for row in expected if row["type"] not in SPECIAL]
    assert found == {row["path"] for row in wanted}
    inodes: dict[int, set[int]] = {}
    for row in wanted:
        path = os.fsencode(restored) + b"/" + os.fsencode(row["path"])
        info = os.lstat(path)
        is_type = {"FILE": stat.S_ISREG, "DIRECTORY": stat.S_ISDIR, "SYMLINK": stat.S_ISLNK,
                   "FIFO": stat.S_ISFIFO}[row["type"]]  # fmt: skip
        assert is_type(info.st_mode), row
        assert info.st_mtime_ns == row["mtime_ns"], row
        if os.geteuid() == 0:
            assert (info.st_uid, info.st_gid) == (row["uid"], row["gid"]), row
        if row["type"] == "SYMLINK":
            assert os.fsdecode(os.readlink(path)) == row["target"]  # noqa: PTH115 - bytes
            continue
        assert stat.S_IMODE(info.st_mode) == row["mode"], row
        if row["type"] == "FILE":
            assert info.st_size == row["size"]
            digest = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            assert digest == row["sha256"], row
        if "group" in row:
            inodes.setdefault(row["group"], set()).add(info.st_ino)
    assert all(len(numbers) == 1 for numbers in inodes.values())


def test_the_decoder_restores_every_point_of_a_golden_vault(version: str, tmp_path: Path) -> None:
    listing = decode(version, tmp_path, "list")
    assert (listing.returncode, listing.stderr) == (0, "")
    assert decode(version, tmp_path, "check").returncode == 0
    for rp_id, expected in inventory_of(version).items():
        assert rp_id in listing.stdout
        target = tmp_path / rp_id
        done = decode(version, tmp_path, "restore", "--recovery-point", rp_id, "--to", str(target))
        special = any(row["type"] in SPECIAL for row in expected)
        assert done.returncode == 0 or special, done.stderr
        for name in ("null", "disk") if special else ():
            (target / "etc" / name).unlink(missing_ok=True)
        if not special:
            compare(target, expected)
    holes = target / "srv" / "data" / "holes"
    if holes.exists():
        assert holes.stat().st_blocks * 512 < holes.stat().st_size / 2


def test_the_decoder_takes_the_latest_point_of_a_named_item(version: str, tmp_path: Path) -> None:
    inventory = inventory_of(version)
    target = tmp_path / "latest"
    done = decode(version, tmp_path, "restore", "--item", "docs", "--to", str(target))
    assert done.returncode == 0, done.stderr
    compare(target, inventory[max(inventory, key=int)])


def test_the_decoder_reads_trailers_when_the_index_is_lost(version: str, tmp_path: Path) -> None:
    for path in (tmp_path / GUID / "tables").iterdir():
        path.unlink()
    target = tmp_path / "latest"
    done = decode(version, tmp_path, "restore", "--item", "docs", "--to", str(target))
    assert done.returncode == 1
    assert "trailers" in done.stderr
    inventory = inventory_of(version)
    compare(target, inventory[max(inventory, key=int)])


def test_the_decoder_names_damage_and_restores_the_rest(version: str, tmp_path: Path) -> None:
    packs = sorted((tmp_path / GUID / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(packs[-1].read_bytes())
    data[len(data) // 3] ^= 1
    packs[-1].write_bytes(data)
    done = decode(version, tmp_path, "check")
    assert done.returncode == 1
    assert packs[-1].name in done.stderr
    record = tmp_path / GUID / "log" / "0000000000000020"
    record.write_bytes(record.read_bytes()[:-1] + b"\0")
    done = decode(version, tmp_path, "list")
    assert done.returncode == 1
    assert record.name in done.stderr
    assert len(done.stdout.splitlines()) > 2
    assert "Traceback" not in done.stderr


def test_the_decoder_refuses_a_wrong_passphrase(version: str, tmp_path: Path) -> None:
    files = GOLDEN / version
    done = subprocess.run(
        [sys.executable, "-I", str(DECODER), "list", "--path", str(tmp_path / GUID),
         "--key", str(files / "vault.key")],
        env={"HOLDFAST_PASSPHRASE": "not the passphrase"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "passphrase" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_decoder_stands_alone() -> None:
    """It imports the standard library and three wheels, and nothing of the package."""
    imported = set()
    for node in ast.walk(ast.parse(DECODER.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    outside = {name for name in imported if name not in sys.stdlib_module_names}
    assert outside == {"blake3", "cryptography", "zstandard"}
