"""Opening from a log checkpoint gives what the whole log gives, whatever became of checkpoints."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from blake3 import blake3

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import StoreFullError
from holdfast.testing.little_agent import A_DAY, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import checkpoints, export
from holdfast.vaultstore.head import Head
from holdfast.vaultstore.layout import CHECKPOINTS, LOG
from holdfast.vaultstore.merkle import Peaks, root_of, with_leaf
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16, tenant_id=b"T" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
EVERY = 8


class CountingStore(MemoryStore):
    """Knows which records were read."""

    def __init__(self) -> None:
        super().__init__()
        self.records = 0

    def read(self, key: str) -> bytes:
        self.records += f"/{LOG}" in key
        return super().read(key)


class Yard:
    """A vault with some history: points, an expiry, a collect, sessions that stay open."""

    def __init__(self) -> None:
        self.store, self.clock, self.rng = CountingStore(), MovableClock(), SeededRandom(3)
        self.vault = Vault.create(
            self.store, KEY, ids=IDS, options=OPTIONS, clock=self.clock, rng=self.rng
        )
        self.live = 0

    def go_on(self, number: int) -> None:
        agent = LittleAgent(self.vault, self.rng, f"Linux;{number % 2}")
        held = self.vault.recovery_points(agent.item_key)
        day = A_DAY + timedelta(days=number)
        made = agent.back_up({b"f": self.rng.token(3000), b"same": b"s" * 3000}, time=day)
        if held:
            self.vault.begin_session("restore", "c", "i", self.rng.token(16), pins=[held[-1].rp_id])
            self.vault.expire(self.vault.plan_expire({held[-1].rp_id: "old"}))
            self.vault.collect()
        assert agent.restore(made.rp_id)[b"same"] == b"s" * 3000

    def open(self) -> LogState:
        self.store.records = 0
        self.vault = Vault.open(
            self.store, IDS.vault_id, Unlock(platform_key=KEY), clock=self.clock, rng=self.rng
        )
        return self.vault._core.state

    def checkpoints(self) -> list[str]:
        return sorted(key for key in self.store.objects if f"/{CHECKPOINTS}" in key)

    def replayed(self) -> LogState:
        """What the log alone gives."""
        kept = dict(self.store.objects)
        for key in self.checkpoints():
            del self.store.objects[key]
        state = self.open()
        self.store.objects = kept
        return state


@pytest.fixture
def yard(monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.setattr(checkpoints, "EVERY", EVERY)
    made = Yard()
    for number in range(6):
        made.go_on(number)
    return made


def test_a_checkpoint_gives_what_the_log_gives_at_any_length(yard: Yard) -> None:
    for number in range(6, 10):
        yard.go_on(number)
        whole = yard.replayed()
        assert yard.open() == whole
        assert yard.store.records <= EVERY + 3, "one checkpoint, its record, and the tail"
        assert len(yard.checkpoints()) == 2
        assert whole.sessions
        assert whole.packs


def test_a_vault_opened_from_a_checkpoint_goes_on(yard: Yard) -> None:
    yard.open()
    for number in range(6, 9):
        yard.go_on(number)
        yard.open()
    report = yard.vault.verify()
    assert not report.damages
    assert report.recovery_points == 2


def flipped(data: bytes, _other: bytes) -> bytes:
    return data[:60] + bytes([data[60] ^ 1]) + data[61:]


def empty(_data: bytes, _other: bytes) -> bytes:
    return b""


def short(data: bytes, _other: bytes) -> bytes:
    return data[: len(data) // 2]


def swapped(_data: bytes, other: bytes) -> bytes:
    return other


@pytest.mark.parametrize("damage", [flipped, empty, short, swapped])
def test_a_damaged_checkpoint_costs_time_only(
    yard: Yard, damage: Callable[[bytes, bytes], bytes]
) -> None:
    whole = yard.replayed()
    older, newest = yard.checkpoints()
    objects = yard.store.objects
    objects[newest] = damage(objects[newest], objects[older])
    assert yard.open() == whole
    assert EVERY < yard.store.records <= 2 * EVERY + 4, "the older one serves"
    objects[older] = flipped(objects[older], b"")
    assert yard.open() == whole
    assert yard.store.records >= whole.sequence, "the log alone serves"


def test_a_checkpoint_that_was_never_written_is_written_by_the_next_opening(yard: Yard) -> None:
    newest = yard.checkpoints()[-1]
    del yard.store.objects[newest]
    whole = yard.open()
    assert yard.checkpoints()[-1] == newest
    assert yard.open() == whole
    assert yard.store.records <= EVERY + 3


def test_a_full_store_keeps_the_record_and_leaves_the_checkpoint(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, before = yard.store.create, yard.checkpoints()

    def full(key: str, data: bytes) -> None:
        if CHECKPOINTS in key:
            raise StoreFullError("no room")
        create(key, data)

    monkeypatch.setattr(yard.store, "create", full)
    for number in range(6, 9):
        yard.go_on(number)
    assert yard.checkpoints() == before
    assert yard.open() == yard.replayed()


def test_a_checkpoint_tells_that_the_log_behind_it_is_gone(yard: Yard) -> None:
    last = int(yard.checkpoints()[-1][-16:])
    for key in [key for key in yard.store.objects if f"/{LOG}" in key and int(key[-16:]) >= last]:
        del yard.store.objects[key]
    yard.open()
    assert yard.vault.doubt is not None
    assert yard.vault.doubt.code == "LogRolledBack"
    yard.vault.accept_head(yard.vault.plan_accept_head([], []))
    for number in range(6, 9):
        yard.go_on(number)
    whole = yard.replayed()
    assert yard.open() == whole, "the given-up checkpoint is passed over"
    assert yard.vault.doubt is None
    assert whole.term == 2


def test_the_independent_decoder_reads_on(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vault with checkpoints and an accepted head."""
    monkeypatch.setattr(export.export_key, "__defaults__", (1024,))
    yard.vault.witness(Head(sequence=99, term=1, hash=b"h" * 32), "somebody")
    yard.vault.accept_head(yard.vault.plan_accept_head([], []))
    yard.go_on(6)
    key = tmp_path / "key"
    key.write_bytes(yard.vault.export_key("correct horse"))
    for name, data in yard.store.objects.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found = decoder().Vault(tmp_path / str(UUID(bytes=IDS.vault_id)), key, "correct horse")
    assert found.problems == []
    assert set(found.points) == {point.rp_id for point in yard.vault.recovery_points()}


def test_the_merkle_root_is_that_of_the_tree_over_all_records() -> None:
    leaves = [blake3(bytes([number])).digest() for number in range(70)]
    peaks: Peaks = ()
    for count, leaf in enumerate(leaves, start=1):
        peaks = with_leaf(peaks, count, leaf)
        level = leaves[:count]
        while len(level) > 1:
            pairs = [b"".join(level[at : at + 2]) for at in range(0, len(level), 2)]
            level = [blake3(pair).digest() if len(pair) == 64 else pair for pair in pairs]
        assert root_of(peaks) == level[0]
        assert len(peaks) == count.bit_count()


def decoder() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "vault_decoder.py"
    spec = importlib.util.spec_from_file_location("vault_decoder", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("vault_decoder", found)
    spec.loader.exec_module(found)
    return found


def test_the_bytes_are_as_described(yard: Yard) -> None:
    foreign = decoder()
    key = yard.checkpoints()[-1]
    data, service = yard.store.objects[key], yard.vault._core.rings.service
    signed = foreign.check_signature(service.verifier, data, key)
    header, body = foreign.open_sealed(signed, 7, service.log, IDS.vault_id)
    record = foreign.MessagePack.read(body)
    number = int(key[-16:])
    followed = blake3(yard.store.objects[key.replace(CHECKPOINTS, LOG)]).digest()
    assert (record["sequence"], record["hash"], record["term"]) == (number, followed, 1)
    assert record["points"][0]["op"]["op"] == "point-committed"
    assert {"pack_id", "lock_until_ns", "copies"} <= record["packs"][0].keys()
    assert set(record) == {
        *("sequence", "hash", "term", "time_ns", "vault_id", "domain_id", "next_ordinal"),
        *("next_pack", "key_exported", "packs", "tables", "sealing_keys", "containers"),
        *("sessions", "points", "expired", "item_commits", "merkle_root", "merkle_peaks"),
        *("immutability", "retired"),
    }
    assert header is not None
