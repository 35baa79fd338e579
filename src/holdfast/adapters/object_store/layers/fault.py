"""Failing on purpose: planned faults that must all happen, and seeded random ones.

A fault ``before`` leaves the store as it was; one ``after`` loses the reply of a call that took
effect. Methods are named as in the port; those of uploads are ``write`` and ``publish``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from holdfast.adapters.object_store.layers.base import StoreLayer, UploadLayer
from holdfast.errors import InternalError, StoreError, StoreFullError, StoreUnavailableError
from holdfast.ports.object_store import Buffer, ObjectInfo, ObjectStore, Upload

T = TypeVar("T")
When = Literal["before", "after"]
Kind = Literal["unavailable", "full"]
METHODS = frozenset(
    ("create", "upload", "write", "publish", "read", "read_range", "size", "list", "delete")
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One call that fails: the ``nth`` (from 1) call of ``method`` on a key that begins with
    ``prefix``. A full store fails before."""

    method: str
    nth: int = 1
    when: When = "before"
    kind: Kind = "unavailable"
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.method not in METHODS or self.nth < 1:
            raise InternalError(f"no call can meet {self}")
        if self.kind == "full" and self.when == "after":
            raise InternalError("a full store takes nothing")


class Faults(Protocol):
    """Decides which calls fail."""

    def next(self, method: str, key: str) -> Fault | None: ...


@dataclass
class PlannedFaults:
    """Exactly these faults, each once. ``left`` are those that have not happened."""

    plan: Iterable[Fault]
    left: list[Fault] = field(init=False)

    def __post_init__(self) -> None:
        self.left = list(self.plan)
        self._seen = dict.fromkeys(self.left, 0)
        self._lock = threading.Lock()

    def next(self, method: str, key: str) -> Fault | None:
        due = None
        with self._lock:
            for fault in list(self.left):
                if fault.method != method or not key.startswith(fault.prefix):
                    continue
                self._seen[fault] += 1
                if self._seen[fault] >= fault.nth and due is None:
                    due = fault
                    self.left.remove(fault)
        return due

    def require_all_fired(self) -> None:
        """InternalError when a planned fault never happened: what it was to test was not tested."""
        if self.left:
            raise InternalError(f"planned faults that never happened: {self.left}")


class SeededFaults:
    """Each call fails with probability ``rate``, repeatably by ``seed`` for one order of calls."""

    def __init__(self, seed: int, rate: float, methods: Iterable[str] = METHODS) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self._methods = frozenset(methods)
        self._lock = threading.Lock()
        self.fired = 0

    def next(self, method: str, key: str) -> Fault | None:
        with self._lock:
            hit = self._random.random() < self._rate
            late = self._random.random() < 0.5
            if not hit or method not in self._methods:
                return None
            self.fired += 1
        return Fault(method, when="after" if late else "before")


class FaultStore(StoreLayer):
    """``inner``, failing as ``faults`` say."""

    def __init__(self, inner: ObjectStore, faults: Faults) -> None:
        super().__init__(inner)
        self.faults = faults

    def step(self, method: str, key: str, action: Callable[[], T]) -> T:
        """``action``, or the fault due now."""
        fault = self.faults.next(method, key)
        if fault is None:
            return action()
        if fault.when == "after":
            action()
        raise _error(fault, key)

    def create(self, key: str, data: Buffer) -> None:
        self.step("create", key, lambda: self.inner.create(key, data))

    def upload(self, key: str) -> Upload:
        return FaultUpload(self, key, self._begin(key))

    def _begin(self, key: str) -> Upload:
        fault = self.faults.next("upload", key)
        if fault is not None:
            raise _error(fault, key)
        return self.inner.upload(key)

    def read(self, key: str) -> bytes:
        return self.step("read", key, lambda: self.inner.read(key))

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.step("read_range", key, lambda: self.inner.read_range(key, offset, length))

    def size(self, key: str) -> int | None:
        return self.step("size", key, lambda: self.inner.size(key))

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """A fault ``after`` comes when half of the objects have been given."""
        fault = self.faults.next("list", prefix)
        if fault is None:
            return self.inner.list(prefix, after)
        return self._half(fault, prefix, after)

    def _half(self, fault: Fault, prefix: str, after: str) -> Iterator[ObjectInfo]:
        if fault.when == "after":
            found = list(self.inner.list(prefix, after))
            yield from found[: len(found) // 2]
        raise _error(fault, prefix)

    def delete(self, key: str) -> None:
        self.step("delete", key, lambda: self.inner.delete(key))


class FaultUpload(UploadLayer):
    """An upload that fails as its store's faults say. A publish whose reply was lost has ended."""

    def __init__(self, store: FaultStore, key: str, inner: Upload) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key

    def write(self, data: Buffer) -> None:
        self._store.step("write", self._key, lambda: self.inner.write(data))

    def publish(self) -> None:
        self._store.step("publish", self._key, self.inner.publish)


def _error(fault: Fault, key: str) -> StoreError:
    if fault.kind == "full":
        return StoreFullError(f"{fault.method} of {key}: the store was made to be full")
    return StoreUnavailableError(f"{fault.method} of {key} was made to fail {fault.when} it")
