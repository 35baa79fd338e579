"""Failing on purpose: planned faults that must all happen, and seeded random ones.

A fault ``before`` leaves the store as it was; one ``after`` loses the reply of a call that took
effect. A store that lies reports success: what is read or kept has a bit flipped (``flip``) or is
cut off (``short``), a list lacks what was created last (``stale``). Methods are named as in the
port; those of uploads are ``write`` and ``publish``.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from holdfast.adapters.object_store.layers.base import StoreLayer, UploadLayer
from holdfast.errors import InternalError, StoreError, StoreFullError, StoreUnavailableError
from holdfast.ports.object_store import Buffer, ObjectInfo, ObjectStore, Upload

T = TypeVar("T")
When = Literal["before", "after"]
Kind = Literal["unavailable", "full", "flip", "short", "stale"]
METHODS = frozenset(
    ("create", "upload", "write", "publish", "read", "read_range", "size", "list", "delete")
)
BYTES = frozenset(("create", "write", "read", "read_range"))
CAN: dict[Kind, frozenset[str]] = {
    "unavailable": METHODS,
    "full": frozenset(("create", "upload", "write", "publish")),
    "flip": BYTES,
    "short": BYTES,
    "stale": frozenset(("list",)),
}
LIES = ("flip", "short", "stale")
STALE = 3  # a stale list lacks so many of the objects created last


@dataclass(frozen=True, slots=True)
class Fault:
    """One call that goes wrong: the ``nth`` (from 1) call of ``method`` on a key that begins with
    ``prefix``. A full store fails before. ``place`` (0 to 1): where in the bytes a lie is; at 0
    nothing is left of a ``short`` read, one byte of a ``short`` write."""

    method: str
    nth: int = 1
    when: When = "before"
    kind: Kind = "unavailable"
    prefix: str = ""
    place: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in CAN[self.kind] or self.nth < 1 or not 0 <= self.place < 1:
            raise InternalError(f"no call can meet {self}")
        if self.kind != "unavailable" and self.when == "after":
            raise InternalError(f"only a reply can be lost after a call: {self}")

    def bend(self, data: bytes) -> bytes:
        """What a lie makes of ``data``."""
        if self.kind == "short":
            return data[: int(len(data) * self.place)]
        if self.kind == "flip" and data:
            bent = bytearray(data)
            bent[int(len(data) * self.place)] ^= 1 << int(self.place * 64) % 8
            return bytes(bent)
        return data


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
    """Each call of ``methods`` goes wrong with probability ``rate`` in one of the ``kinds`` it can,
    repeatably by ``seed`` for one order of calls. ``fired`` counts them."""

    def __init__(
        self,
        seed: int,
        rate: float,
        methods: Iterable[str] = METHODS,
        kinds: Sequence[Kind] = ("unavailable",),
    ) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self._methods = frozenset(methods)
        self._kinds = tuple(kinds)
        self._lock = threading.Lock()
        self.fired = 0

    def next(self, method: str, key: str) -> Fault | None:
        with self._lock:
            hit, late, which, place = (self._random.random() for _ in range(4))
            kinds = [kind for kind in self._kinds if method in CAN[kind]]
            if hit >= self._rate or method not in self._methods or not kinds:
                return None
            self.fired += 1
        kind = kinds[int(which * len(kinds))]
        after = late < 0.5 and kind == "unavailable"
        return Fault(method, when="after" if after else "before", kind=kind, place=place)


class FaultStore(StoreLayer):
    """``inner``, going wrong as ``faults`` say."""

    def __init__(self, inner: ObjectStore, faults: Faults) -> None:
        super().__init__(inner)
        self.faults = faults
        self._newest: deque[str] = deque(maxlen=STALE)

    def step(self, method: str, key: str, action: Callable[[], T]) -> T:
        """``action``, or the fault due now."""
        return _meet(self.faults.next(method, key), key, action)

    def give(self, method: str, key: str, data: Buffer, action: Callable[[bytes], None]) -> None:
        """``action`` with ``data``, or with what a lie makes of it, or the fault due now."""
        fault = self.faults.next(method, key)
        whole = bytes(data)
        kept = whole if fault is None else fault.bend(whole) or whole[:1]
        _meet(fault, key, lambda: action(kept))

    def take(self, method: str, key: str, action: Callable[[], bytes]) -> bytes:
        """What ``action`` gives, or what a lie makes of it, or the fault due now."""
        fault = self.faults.next(method, key)
        data = _meet(fault, key, action)
        return data if fault is None else fault.bend(data)

    def created(self, key: str) -> None:
        self._newest.append(key)

    def create(self, key: str, data: Buffer) -> None:
        self.give("create", key, data, lambda kept: self.inner.create(key, kept))
        self.created(key)

    def upload(self, key: str) -> Upload:
        return FaultUpload(self, key, self._begin(key))

    def _begin(self, key: str) -> Upload:
        fault = self.faults.next("upload", key)
        if fault is not None:
            raise _error(fault, key)
        return self.inner.upload(key)

    def read(self, key: str) -> bytes:
        return self.take("read", key, lambda: self.inner.read(key))

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.take("read_range", key, lambda: self.inner.read_range(key, offset, length))

    def size(self, key: str) -> int | None:
        return self.step("size", key, lambda: self.inner.size(key))

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """A fault ``after`` comes when half of the objects have been given."""
        fault = self.faults.next("list", prefix)
        if fault is None:
            return self.inner.list(prefix, after)
        if fault.kind == "stale":
            hidden = set(self._newest)
            return (info for info in self.inner.list(prefix, after) if info.key not in hidden)
        return self._half(fault, prefix, after)

    def _half(self, fault: Fault, prefix: str, after: str) -> Iterator[ObjectInfo]:
        if fault.when == "after":
            found = list(self.inner.list(prefix, after))
            yield from found[: len(found) // 2]
        raise _error(fault, prefix)

    def delete(self, key: str) -> None:
        self.step("delete", key, lambda: self.inner.delete(key))


class FaultUpload(UploadLayer):
    """An upload that goes wrong as its store's faults say. A publish whose reply was lost has
    ended."""

    def __init__(self, store: FaultStore, key: str, inner: Upload) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key

    def write(self, data: Buffer) -> None:
        self._store.give("write", self._key, data, self.inner.write)

    def publish(self) -> None:
        self._store.step("publish", self._key, self.inner.publish)
        self._store.created(self._key)


def _meet(fault: Fault | None, key: str, action: Callable[[], T]) -> T:
    if fault is None or fault.kind in LIES:
        return action()
    if fault.when == "after":
        action()
    raise _error(fault, key)


def _error(fault: Fault, key: str) -> StoreError:
    if fault.kind == "full":
        return StoreFullError(f"{fault.method} of {key}: the store was made to be full")
    return StoreUnavailableError(f"{fault.method} of {key} was made to fail {fault.when} it")
