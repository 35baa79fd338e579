"""What the simulation found in the vault, each as the shortest case that shows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast.adapters.object_store.layers.base import StoreLayer
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import ObjectExistsError, StoreUnavailableError
from holdfast.ports.object_store import Buffer, ObjectInfo, ObjectStore
from holdfast.testing.little_agent import BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import layout
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

PLATFORM_KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=16 * 1024, reserve_bytes=0, probe=False)
JOB = b"J" * 16
FILES = {b"d/one": SeededRandom(1).token(20_000), b"d/two": SeededRandom(2).token(20_000)}
MORE = {**FILES, b"d/three": SeededRandom(3).token(9_000)}


class TearingStore(StoreLayer):
    """The next object of ``room`` is left torn, and the call fails."""

    def __init__(self, inner: MemoryStore, room: str, share: float) -> None:
        super().__init__(inner)
        self.objects = inner.objects
        self.room = f"/{room}"
        self.share = share
        self.torn = ""

    def create(self, key: str, data: Buffer) -> None:
        if self.room in key and not self.torn:
            self.torn = key
            self.objects[key] = bytes(data)[: int(len(data) * self.share)]
            raise StoreUnavailableError(f"{key}: broke off")
        super().create(key, data)


class RepeatingStore(StoreLayer):
    """Lists everything twice."""

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix, after):
            yield info
            yield info


def new_vault(store: ObjectStore, seed: int = 1) -> Vault:
    clock, rng = MovableClock(), SeededRandom(seed)
    return Vault.create(store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=clock, rng=rng)


def open_vault(store: ObjectStore, seed: int = 2) -> Vault:
    clock, rng = MovableClock(), SeededRandom(seed)
    return Vault.open(store, IDS.vault_id, Unlock(platform_key=PLATFORM_KEY), clock=clock, rng=rng)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("room", [layout.SESSIONS, layout.TABLES, layout.REFSETS])
def test_no_record_names_an_object_that_was_left_torn(room: str, share: float) -> None:
    """The write failed and the read back showed other bytes; that was taken for success."""
    objects = MemoryStore()
    new_vault(objects).close()
    store = TearingStore(objects, room, share)
    agent = LittleAgent(open_vault(store), SeededRandom(5))
    with pytest.raises(StoreUnavailableError):
        agent.back_up(FILES, JOB)
    assert store.torn
    agent.vault.recover_sessions(JOB)
    made = agent.back_up(FILES, JOB, attempt=2)
    fresh = open_vault(objects, 7)
    assert LittleAgent(fresh, SeededRandom(8)).restore(made.rp_id) == FILES
    assert fresh.verify().clean


def test_a_listing_that_repeats_an_object_does_not_stop_a_job_for_good() -> None:
    """Each pack of the earlier attempt was added twice, which no record may do."""
    objects = MemoryStore()
    vault = new_vault(RepeatingStore(objects))
    agent = LittleAgent(vault, SeededRandom(5))
    first = vault.begin_session("backup", agent.container, agent.item_key, JOB)
    BackupRun(agent, first).send(FILES)
    kept = vault.recover_sessions(JOB)
    assert kept.packs_kept == sum("/packs/" in key for key in objects.objects)
    made = agent.back_up(FILES, JOB, attempt=2)
    assert agent.restore(made.rp_id) == FILES


def test_a_plan_of_another_process_condemns_nothing_that_is_not_known_here() -> None:
    """The plan is older than a point that needs its packs again, and the process that runs it has
    lost their table: it took no pack for touched."""
    store = MemoryStore()
    vault = new_vault(store)
    agent = LittleAgent(vault, SeededRandom(5))
    old = agent.back_up(FILES)
    new = agent.back_up({b"d/other": b"o" * 5000})
    vault.expire(vault.plan_expire({old.rp_id: "old"}))
    plan = vault.plan_collect()
    assert plan.condemn
    wanted = agent.back_up(FILES)
    prefix = layout.vault_prefix(IDS.vault_id)
    hidden = [
        key for key in store.objects if key.startswith((prefix + "packs/", prefix + "tables/"))
    ]
    kept = {key: store.objects.pop(key) for key in hidden}
    blind = open_vault(store)
    store.objects.update(kept)
    blind.collect(plan)
    fresh = open_vault(store, 9)
    assert LittleAgent(fresh, SeededRandom(8)).restore(wanted.rp_id) == FILES
    assert fresh.recovery_point(new.rp_id)


class OldListing(StoreLayer):
    """Lists key rings as they were when they were ``known``."""

    known: frozenset[str] = frozenset()

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix, after):
            if "keyring/" not in info.key or info.key in self.known:
                yield info


@pytest.mark.parametrize("listed", ["none", "first"])
def test_an_old_listing_hides_no_key_ring(listed: str) -> None:
    """A vault could not be opened, or was opened by a ring that lacks the newest slots."""
    inner = MemoryStore()
    vault = new_vault(inner)
    first = frozenset(info.key for info in inner.list("") if "keyring/" in info.key)
    vault.export_key("a passphrase of some length")
    store = OldListing(inner)
    store.known = first if listed == "first" else frozenset()
    again = open_vault(store)
    assert len(first) < len([info for info in inner.list("") if "keyring/" in info.key])
    assert _slots(again) == _slots(open_vault(inner)) != ()


def _slots(vault: Vault) -> tuple[bytes, ...]:
    return vault._core.rings.recovery


class TakenAway(StoreLayer):
    """Under the next record of the log lies what a write left that broke off; it is taken away
    right after somebody was told of it."""

    torn = True

    def create(self, key: str, data: Buffer) -> None:
        if self.torn and "/log/" in key:
            self.torn = False
            raise ObjectExistsError(f"object {key} exists")
        super().create(key, data)


def test_a_torn_record_that_is_taken_away_is_an_outage_and_no_loss() -> None:
    """Seed 217: the name was taken, and then there was nothing to compare with."""
    inner = MemoryStore()
    new_vault(inner)
    vault = open_vault(TakenAway(inner), 7)
    with pytest.raises(StoreUnavailableError, match="was there and is gone"):
        LittleAgent(vault, SeededRandom(4)).back_up(FILES)
    point = LittleAgent(vault, SeededRandom(5)).back_up(FILES)
    assert LittleAgent(open_vault(inner, 9), SeededRandom(6)).restore(point.rp_id) == FILES
