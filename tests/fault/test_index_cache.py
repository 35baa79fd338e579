"""Bits that flip in a node's cache of the index cost a verify some time, and no recovery point."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import index
from holdfast.vaultstore.table import ROW
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
FILES = {b"d/%d" % at: SeededRandom(at).token(20_000) for at in range(12)}


def opened(store: MemoryStore, cache: Path) -> Vault:
    clock, rng = MovableClock(), SeededRandom(5)
    return Vault.open(
        store, IDS.vault_id, Unlock(platform_key=KEY), clock=clock, rng=rng, cache_dir=cache
    )


def flip(path: Path, places: range) -> None:
    data = bytearray(path.read_bytes())
    for at in places:
        data[at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["id", "offset", "run"])
def test_a_verify_mends_the_cache_and_blames_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(index, "FILE_ROWS", 8)
    store, clock, rng = MemoryStore(), MovableClock(), SeededRandom(4)
    vault = Vault.create(
        store, KEY, ids=IDS, options=OPTIONS, clock=clock, rng=rng, cache_dir=tmp_path
    )
    point = LittleAgent(vault, rng).back_up(FILES)
    rows = vault._core.state.next_ordinal
    (run,) = (tmp_path / "runs").glob("*.run")
    if what == "run":
        size = run.stat().st_size
        flip(run, range(size - 8 * rows, size, 8))
    else:
        at = {"id": 0, "offset": 48}[what]
        flip(tmp_path / "rows", range(at, rows * ROW.itemsize, ROW.itemsize))
    vault = opened(store, tmp_path)
    assert vault._core.index.tables(), "the cache was not used, so nothing was tried"
    assert vault.verify().damages == ()
    assert LittleAgent(vault, SeededRandom(6)).restore(point.rp_id) == FILES
    assert opened(store, tmp_path).verify().damages == ()
