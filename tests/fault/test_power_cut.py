"""The power fails before each write, fsync, link, unlink and mkdir of backup, expire with collect,
repair and key export, on a real folder; and, in turn, only the process dies.

The folder is opened again with what fsync promised: every committed point restores bit for bit, the
work is done again and ends, and a verify is clean. ``make test-power`` tries every call; here it is
every so many.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.adapters.object_store.local import LocalStore
from holdfast.testing.little_agent import A_DAY, BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.testing.power_cut import WatchedDisk
from holdfast.vaultstore import export, layout
from holdfast.vaultstore.values import PointFacts, Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=16 * 1024, reserve_bytes=0, probe=False)
JOB = b"J" * 16
OLD = {b"a/old": SeededRandom(1).token(30_000), b"same": b"s" * 50}
KEPT = {b"a/kept": SeededRandom(2).token(20_000), b"same": b"s" * 50}
NEW = {**KEPT, b"a/new": SeededRandom(3).token(40_000), b"z": b""}
CUTS = 1_000_000 if os.environ.get("HOLDFAST_EVERY_POWER_CUT") else 3


@dataclass
class Ground:
    """A store's folder and the points that were acknowledged, with what they hold."""

    folder: Path
    expected: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    def open(self, seed: int) -> Vault:
        clock, unlock = MovableClock(A_DAY + timedelta(days=3)), Unlock(platform_key=KEY)
        store, rng = LocalStore(self.folder), SeededRandom(seed)
        return Vault.open(store, IDS.vault_id, unlock, clock=clock, rng=rng)

    def copy(self, folder: Path) -> Ground:
        shutil.copytree(self.folder, folder)
        return Ground(folder, dict(self.expected))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    made = Ground(tmp_path_factory.mktemp("base") / "store")
    store, clock = LocalStore(made.folder), MovableClock(A_DAY)
    vault = Vault.create(store, KEY, ids=IDS, options=OPTIONS, clock=clock, rng=SeededRandom(1))
    agent = LittleAgent(vault, SeededRandom(2))
    for day, files in enumerate((OLD, KEPT)):
        made.expected[agent.back_up(files, time=A_DAY + timedelta(days=day)).rp_id] = files
    return made


@pytest.fixture(scope="module")
def ill(base: Ground, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The same with a pack, a table and a refset damaged, all known, and a backup that healed
    nothing yet."""
    made = base.copy(tmp_path_factory.mktemp("ill") / "store")
    vault = made.open(3)
    state, rp_id = vault._core.state, min(made.expected)
    point = state.points[rp_id].op
    packs = [one.pack for one in state.packs.values() if one.pack.session_id == point.session_id]
    pack = max(packs, key=lambda one: (one.pack_class, one.size))
    table = next(iter(state.tables))
    for key in (
        layout.pack_key(pack.session_id, pack.pack_id),
        layout.table_key(table),
        layout.refset_key(point.refset.name),
    ):
        (path,) = made.folder.glob(f"*/{key}")
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
    vault = made.open(4)
    vault.note_verified(vault.verify(), A_DAY)
    again = LittleAgent(vault, SeededRandom(5)).back_up(OLD, time=A_DAY + timedelta(days=2))
    made.expected[again.rp_id] = OLD
    return made


def back_up(vault: Vault) -> None:
    """What the server and an agent do for one attempt of job JOB."""
    agent = LittleAgent(vault, SeededRandom(vault.head[0]))
    vault.recover_sessions(JOB)
    if vault.point_of_job(agent.item_key, JOB) is not None:
        return
    grant = vault.begin_session("backup", agent.container, agent.item_key, JOB)
    run = BackupRun(agent, grant)
    root_id = run.send(NEW)
    vault.checkpoint(grant.session_id, run.receipts[:1])
    run.commit(root_id, PointFacts(time=A_DAY + timedelta(days=2)))
    vault.close_session(grant.session_id)


def expire_and_collect(vault: Vault) -> None:
    points = [point.rp_id for point in vault.recovery_points()]
    if len(points) > 1:
        vault.expire(vault.plan_expire({points[0]: "old"}))
    vault.collect()


def mend(vault: Vault) -> None:
    vault.recover_sessions(JOB)
    vault.repair(JOB)


def export_key(vault: Vault) -> None:
    vault.export_key("correct horse")


def check(ground: Ground, vault: Vault) -> None:
    """Whatever the cut left, committed points restore, nothing is in the way, all is whole."""
    agent = LittleAgent(vault, SeededRandom(99))
    for point in vault.recovery_points():
        assert agent.restore(point.rp_id) == ground.expected.get(point.rp_id, NEW)
    for session in vault.open_sessions():
        vault.revoke_session(session.session_id, "its process is gone")
    assert vault.collect().complete
    assert vault.verify().damages == ()


WORK: dict[str, Callable[[Vault], None]] = {
    "backup": back_up,
    "expire and collect": expire_and_collect,
    "repair": mend,
    "key export": export_key,
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", WORK)
def test_what_was_promised_is_there_after_a_power_cut(
    name: str, base: Ground, ill: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.export_key, "__defaults__", (1024,))
    begin, work = ill if name == "repair" else base, WORK[name]
    whole = begin.copy(tmp_path / "whole")
    vault = whole.open(7)
    with WatchedDisk(whole.folder).watching() as disk:
        work(vault)
    total = len(disk.calls)
    assert {"write", "fsync", "link"} <= set(disk.calls)
    assert total > 10
    for at in range(0, total, max(1, total // CUTS)):
        ground = begin.copy(tmp_path / f"cut-{at}")
        vault = ground.open(7)
        with WatchedDisk(ground.folder, at).watching() as disk:
            work(vault)
        assert disk.dead
        left = Ground(disk.survivors(tmp_path / f"left-{at}"), ground.expected)
        for one in (left, ground):  # the machine lost its power, or only the process died
            if name != "repair":
                opened = one.open(8)
                for rp_id in {point.rp_id for point in opened.recovery_points()}:
                    files = one.expected.get(rp_id, NEW)
                    assert LittleAgent(opened, SeededRandom(9)).restore(rp_id) == files
            again = one.open(10)
            work(again)
            check(one, one.open(11))
        shutil.rmtree(ground.folder)
        shutil.rmtree(left.folder)
