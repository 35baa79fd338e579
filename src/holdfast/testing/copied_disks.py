"""Disks in memory that vanish, refuse and lie, and sets of copies on them: for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.adapters.object_store.copies.changing import make_set
from holdfast.adapters.object_store.copies.member import Member
from holdfast.adapters.object_store.copies.store import CopiesStore
from holdfast.adapters.object_store.layers.fault import Fault, FaultStore
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import StoreUnavailableError
from holdfast.ports.object_store import ObjectStore

Gate = Callable[[str, str], bool]


class Disk:
    """A member in memory that can be away, or refuse what ``refuses`` (method, key) says."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.away = False
        self.refuses: Gate = lambda _method, _key: False
        self.lies = False

    def next(self, method: str, key: str) -> None:
        if self.away or self.refuses(method, key):
            raise StoreUnavailableError(f"the disk is away: {method} {key}")

    def open(self) -> ObjectStore:
        self.next("open", "")
        store: ObjectStore = FaultStore(self.memory, _Guard(self))
        if self.lies:
            store = FaultStore(store, _Lies())
        return store

    @property
    def objects(self) -> dict[str, bytes]:
        found = self.memory.objects.items()
        return {key: data for key, data in found if not key.startswith(".copies/")}

    @property
    def aside(self) -> list[bytes]:
        found = self.memory.objects.items()
        return [data for key, data in found if key.startswith(".copies/aside/")]


class _Guard:
    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def next(self, method: str, key: str) -> None:
        self.disk.next(method, key)


class _Lies:
    def next(self, method: str, key: str) -> Fault | None:
        lies = method in ("read", "read_range") and not key.startswith(".copies/")
        return Fault(method, kind="flip") if lies else None


def opened(disks: Sequence[Disk]) -> CopiesStore:
    """A process that opens the set."""
    return CopiesStore(
        [
            Member(number, f"disk{number}", disk.open, disk.open, retry_seconds=0)
            for number, disk in enumerate(disks, 1)
        ]
    )


def made(count: int = 3) -> list[Disk]:
    """The disks of a new set."""
    disks = [Disk() for _ in range(count)]
    make_set([(f"disk{number}", disk.open()) for number, disk in enumerate(disks, 1)])
    return disks
