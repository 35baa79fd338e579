"""Whole values kept beside the log: numbered, sealed and signed objects ``ROOM/<number>``.

The highest number counts, and the one before it stays until the next is written. Versions that do
not know a room pass over it. Nothing the log decides rests on such a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from holdfast.errors import IntegrityError, ObjectMissingError
from holdfast.vaultstore import layout
from holdfast.vaultstore.chain import create_or_find
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind

MOST_BYTES = 64 * 1024 * 1024
T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Beside(Generic[T]):
    """One room. Its objects' bodies are msgpack maps: ``number``, and under ``field`` the value."""

    room: str
    kind: ObjectKind
    field: str
    shape: type[T]

    def change(self, core: VaultCore, decide: Callable[[T | None], T | None]) -> T | None:
        """Write what ``decide`` makes of the newest value (None: there is none that can be read),
        or nothing when it gives None; it is asked again when another process was quicker. Returns
        what it gave last."""
        with core.lock:
            while True:
                numbers = self._numbers(core)
                newest = numbers[-1] if numbers else 0
                value = decide(self._readable(core, newest))
                if value is None:
                    return None
                body = msgspec.msgpack.encode({"number": newest + 1, self.field: value})
                data = core.seal.seal_signed(self.kind, body)
                if create_or_find(core.objects, self._key(newest + 1), data):
                    break
            for number in numbers[:-1]:
                core.objects.delete(self._key(number))
        return value

    def newest(self, core: VaultCore) -> T | None:
        """What was written last; None when nothing ever was. IntegrityError (ObjectDamaged) when
        that cannot be read: what was before it does not count any more."""
        numbers = self._numbers(core)
        try:
            return self._read(core, numbers[-1]) if numbers else None
        except ObjectMissingError:  # replaced by another process just now
            return self._read(core, self._numbers(core)[-1])

    def _readable(self, core: VaultCore, number: int) -> T | None:
        try:
            return self._read(core, number) if number else None
        except (IntegrityError, ObjectMissingError):
            return None

    def _key(self, number: int) -> str:
        return layout.numbered_key(self.room, number)

    def _numbers(self, core: VaultCore) -> list[int]:
        listed = core.objects.list(self.room)
        found = (layout.number_below(self.room, info.key) for info in listed)
        return sorted(number for number in found if number is not None)

    def _read(self, core: VaultCore, number: int) -> T:
        data = core.objects.read(self._key(number))
        if len(data) > MOST_BYTES:
            raise IntegrityError("it is too large", code="ObjectDamaged")
        body = core.seal.open_signed(self.kind, data)
        try:
            found = msgspec.msgpack.decode(body)
            value = msgspec.convert(found[self.field], self.shape)
            own = found["number"]
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise IntegrityError(f"its body is damaged: {error}", code="ObjectDamaged") from error
        if own != number:
            raise IntegrityError("it is stored under another number", code="ObjectDamaged")
        return value
