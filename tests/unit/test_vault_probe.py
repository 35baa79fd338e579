"""The probe finds stores a vault must not be created on, and leaves nothing behind."""

from __future__ import annotations

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import StoreError
from holdfast.ports.object_store import Buffer, ObjectInfo
from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore.layout import VaultObjects, find_vaults
from holdfast.vaultstore.probe import probe_store


class Overwriting(MemoryStore):
    def create(self, key: str, data: Buffer) -> None:
        self.objects[key] = bytes(data)


class Forgetful(MemoryStore):
    def create(self, key: str, data: Buffer) -> None:
        super().create(key, data)
        self.objects[key] = b""


class ListsLate(MemoryStore):
    def list(self, prefix: str = "", after: str = ""):
        return iter(())


class RangesWide(MemoryStore):
    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.objects[key]


class Undeleting(MemoryStore):
    def delete(self, key: str) -> None:
        return None


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (Overwriting, "StoreCreateNotAtomic"),
        (Forgetful, "StoreCreateNotAtomic"),
        (ListsLate, "StoreProbeFailed"),
        (RangesWide, "StoreProbeFailed"),
        (Undeleting, "StoreProbeFailed"),
    ],
)
def test_a_store_that_breaks_a_promise_is_refused(bad: type[MemoryStore], code: str) -> None:
    store = bad()
    with pytest.raises(StoreError) as refused:
        probe_store(VaultObjects(store, b"v" * 16), SeededRandom(1))
    assert refused.value.code == code
    assert bad is Undeleting or store.objects == {}


def test_a_good_store_is_left_as_it_was() -> None:
    store = MemoryStore()
    assert "create-if-absent" in probe_store(VaultObjects(store, b"v" * 16), SeededRandom(1))
    assert store.objects == {}


def test_vaults_are_found_among_other_things() -> None:
    store = MemoryStore()
    for vault_id in (b"a" * 16, b"b" * 16):
        objects = VaultObjects(store, vault_id)
        for number in range(3):
            objects.create(f"log/{number}", b"x")
        objects.create("descriptor", b"d")
    VaultObjects(store, b"c" * 16).create("log/0", b"x")
    for key in ("aaa", "zzz/file", "not-a-guid/descriptor"):
        store.objects[key] = b""
    assert find_vaults(store) == [b"a" * 16, b"b" * 16]
    listed = [info.key for info in VaultObjects(store, b"a" * 16).list("log/", "log/0")]
    assert listed == ["log/1", "log/2"]
    assert isinstance(next(VaultObjects(store, b"a" * 16).list()), ObjectInfo)
