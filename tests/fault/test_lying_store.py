"""A vault on a store that lies: right bytes or a clear error, and never a lie of the vault's own.

Reads come back with flipped bits, cut off or empty; writes are kept so; lists lack the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from holdfast.adapters.object_store.layers.fault import FaultStore, Kind, SeededFaults
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import HoldfastError
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

PLATFORM_KEY = bytes(range(32))
UNLOCK = Unlock(platform_key=PLATFORM_KEY)
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=16 * 1024, reserve_bytes=0, probe=False)
READS = ("read", "read_range")
WRITES = ("create", "write")
Files = Mapping[bytes, bytes]


class Promised:
    """What was committed, by recovery point id."""

    def __init__(self) -> None:
        self.points: dict[str, Files] = {}
        self.dropped: set[str] = set()
        self.refused = 0

    def attempt(self, action: Callable[[], None]) -> None:
        """``action`` may fail with an error of ours, and in no other way."""
        try:
            action()
        except HoldfastError as error:
            assert error.code != "InternalError", error
            self.refused += 1


def some_files(number: int) -> Files:
    rng = SeededRandom(number)
    return {b"d/new": rng.token(9000 + number), b"d/same": b"s" * 5000, b"empty": b""}


def honest_vault(store: MemoryStore, promised: Promised, points: int = 3) -> None:
    vault = Vault.create(
        store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=MovableClock(), rng=SeededRandom(1)
    )
    for number in range(points):
        back_up(vault, promised, number)
    vault.close()


def open_vault(store: ObjectStore, seed: int = 9) -> Vault:
    return Vault.open(store, IDS.vault_id, UNLOCK, clock=MovableClock(), rng=SeededRandom(seed))


def back_up(vault: Vault, promised: Promised, number: int) -> None:
    files = some_files(number)
    record = LittleAgent(vault, SeededRandom(100 + number)).back_up(files)
    promised.points[record.rp_id] = files


def restore(vault: Vault, promised: Promised, rp_id: str, seed: int) -> None:
    found = LittleAgent(vault, SeededRandom(seed)).restore(rp_id)
    assert found == promised.points[rp_id], f"{rp_id} was restored with other content"


def use(vault: Vault, promised: Promised, seed: int) -> None:
    """A day in the life of a vault; every step may be refused."""
    for rp_id in sorted(promised.points.keys() - promised.dropped):
        promised.attempt(lambda rp_id=rp_id: restore(vault, promised, rp_id, seed))  # type: ignore[misc]
    for step in range(3):
        number = 1000 * seed + step + 10
        promised.attempt(lambda number=number: back_up(vault, promised, number))  # type: ignore[misc]
    promised.attempt(lambda: expire_oldest(vault, promised))
    promised.attempt(lambda: vault.collect() and None)
    promised.attempt(lambda: vault.verify() and None)


def expire_oldest(vault: Vault, promised: Promised) -> None:
    plan = vault.plan_expire({vault.recovery_points()[0].rp_id: "old"})
    promised.dropped |= {drop.rp_id for drop in plan.drops}
    vault.expire(plan)


def lying_days(store: MemoryStore, promised: Promised, faults: SeededFaults, seed: int) -> None:
    """Processes come and go; damage that one believes in ends with it."""
    for number in range(4):
        try:
            vault = open_vault(FaultStore(store, faults), 10 * seed + number)
        except HoldfastError:
            promised.refused += 1
            continue
        use(vault, promised, 10 * seed + number)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_read_wrong_is_told_and_changes_nothing(seed: int) -> None:
    store, promised = MemoryStore(), Promised()
    honest_vault(store, promised)
    kinds: tuple[Kind, ...] = ("flip", "short")
    faults = SeededFaults(seed, (0.01, 0.05, 0.3)[seed % 3], READS, kinds)
    lying_days(store, promised, faults, seed)
    assert faults.fired
    assert promised.refused

    vault = open_vault(store)
    found = {point.rp_id for point in vault.recovery_points()}
    assert found >= promised.points.keys() - promised.dropped
    for rp_id in found & promised.points.keys():
        restore(vault, promised, rp_id, 77)
    report = vault.verify()
    assert not report.damages


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_wrong_is_never_restored(seed: int) -> None:
    store, promised = MemoryStore(), Promised()
    honest_vault(store, promised)
    faults = SeededFaults(seed, 0.03, WRITES, ("flip", "short"))
    lying_days(store, promised, faults, seed)
    try:
        vault = open_vault(store)
    except HoldfastError as error:
        assert error.code in ("LogDamaged", "KeyRingDamaged"), error.code
        return
    lost: set[str] = set()
    for point in vault.recovery_points():
        if point.rp_id in promised.points:
            try:
                restore(vault, promised, point.rp_id, 77)
            except HoldfastError:
                lost.add(point.rp_id)
    named = {rp_id for damage in vault.verify().damages for rp_id in damage.recovery_points}
    assert lost <= named, "verify passes over a point that cannot be restored"


@pytest.mark.parametrize("seed", range(4))
def test_stale_lists_lose_nothing(seed: int) -> None:
    store, promised = MemoryStore(), Promised()
    honest_vault(store, promised)
    faults = SeededFaults(seed, 0.6, ("list",), ("stale",))
    lying_days(store, promised, faults, seed)
    assert faults.fired
    assert promised.refused == 0
    vault = open_vault(store)
    assert {point.rp_id for point in vault.recovery_points()} == (
        promised.points.keys() - promised.dropped
    )
    for rp_id in promised.points.keys() - promised.dropped:
        restore(vault, promised, rp_id, 77)
    assert not vault.verify().damages
