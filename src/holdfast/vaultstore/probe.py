"""Probing a store: does it do what the protocol rests on?

Racing creates must have exactly one winner; an object must be readable, listed and ranged at once
after its create; a second create must be refused and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from holdfast.errors import IntegrityError, ObjectExistsError, StoreError
from holdfast.ports.clock import Random
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import layout

RACERS = 4
NOT_ATOMIC = "StoreCreateNotAtomic"


def probe_store(store: ObjectStore, rng: Random) -> str:
    """Names what was proven. StoreError names the first promise not kept: StoreCreateNotAtomic when
    create-if-absent does not hold, StoreProbeFailed for any other."""
    prefix = f"{layout.PROBE}{rng.token(8).hex()}-"
    keys = [f"{prefix}{number}" for number in range(2)]
    try:
        _check_race(store, keys[0])
        _check_reads(store, keys[1], prefix)
    finally:
        for key in keys:
            store.delete(key)
    _require(store.size(keys[0]) is None, "a deleted object is gone")
    return "create-if-absent read-after-write list-after-write ranged-reads delete"


def _check_race(store: ObjectStore, key: str) -> None:
    def create(number: int) -> bool:
        try:
            store.create(key, bytes([number]) * 64)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        won = list(pool.map(create, range(RACERS)))
    _require(won.count(True) <= 1, "of racing creates only one wins", NOT_ATOMIC)
    _require(any(won), "of racing creates one wins")
    kept = store.read(key) == bytes([won.index(True)]) * 64
    _require(kept, "the bytes of the create that won are kept", NOT_ATOMIC)


def _check_reads(store: ObjectStore, key: str, prefix: str) -> None:
    data = bytes(range(256)) * 4
    store.create(key, data)
    _require(store.size(key) == len(data), "an object's size is known after its create")
    _require(store.read_range(key, 100, 300) == data[100:400], "ranged reads are exact")
    listed = [info.key for info in store.list(prefix)]
    _require(key in listed and listed == sorted(listed), "an object is listed after its create")
    refused = _refused(lambda: store.create(key, b"other"))
    _require(refused, "a second create is refused", NOT_ATOMIC)
    _require(store.read(key) == data, "a refused create changes nothing", NOT_ATOMIC)


def _refused(action: Callable[[], None]) -> bool:
    try:
        action()
    except (ObjectExistsError, IntegrityError):
        return True
    return False


def _require(kept: bool, promise: str, code: str = "StoreProbeFailed") -> None:
    if not kept:
        raise StoreError(
            f"the store does not keep a promise vaults rest on: {promise}",
            code=code,
            hint="Use another store, or one whose conditional writes work.",
        )
