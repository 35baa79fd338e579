"""Scrub: read every object of a vault whole and check what needs no key.

What can be told without a key: names, kinds, vault and pack ids in plain headers; the hash a pack
and the descriptor end with; the chain of hashes over the log. Tables, refsets, sessions and key
rings carry no plain hash: their headers are checked, and their bytes when ``wanted`` gives the hash
the log has of them. Objects are read in the order of their names, so a run that was stopped goes on
after the last one it looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from blake3 import blake3

from holdfast.errors import IntegrityError, NotFoundError, ObjectMissingError
from holdfast.ports.object_store import ObjectInfo, ObjectStore
from holdfast.vaultstore import layout
from holdfast.vaultstore.format import Header, ObjectKind, decode_header
from holdfast.vaultstore.layout import find_vaults
from holdfast.vaultstore.pack import HASH_BYTES, PackTlv, padded_size
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.rings import check_ring_name
from holdfast.vaultstore.sealed import TLV_PREVIOUS, TLV_SEQUENCE
from holdfast.vaultstore.values import Damage, Problem

PIECE_BYTES = 8 * 1024 * 1024  # [bytes] of a pack read at once
_KINDS = {
    "descriptor": ObjectKind.DESCRIPTOR,
    "health": ObjectKind.HEALTH,
    "life": ObjectKind.LIFE,
    "log": ObjectKind.LOG_RECORD,
    "packs": ObjectKind.PACK,
    "refsets": ObjectKind.REFSET,
    "reserve": ObjectKind.RESERVE,
    "sessions": ObjectKind.SESSION,
    "tables": ObjectKind.TABLE,
    "keyring": ObjectKind.KEYRING,
}
_ANY = frozenset(range(0x8000))  # fields of newer versions are no damage
Judged = tuple[Problem, str]
Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the log says of an object: its size [bytes] and hash (of a pack: the one it ends with),
    where it says them. ``needed``: it must be there."""

    size: int | None = None
    hash: bytes | None = None
    needed: bool = True


@dataclass(slots=True)
class ScrubResult:
    """``cursor``: name of the last object looked at. ``damages`` name no recovery points: which
    ones need an object only the log knows."""

    objects: int = 0
    stored_bytes: int = 0
    damages: list[Damage] = field(default_factory=list)
    cursor: str = ""
    complete: bool = False


class Scrub:
    """One run over a vault's objects. ``wanted``: what must be there, by name; ``still_wanted``
    asks again, after a missing object was noticed, whether the log still names it."""

    def __init__(
        self,
        objects: layout.VaultObjects,
        vault_id: bytes,
        wanted: Mapping[str, Wanted] | None = None,
        still_wanted: Callable[[str], bool] = lambda _key: True,
    ) -> None:
        self._objects = objects.thorough()
        self._vault_id = vault_id
        self._wanted = wanted or {}
        self._still_wanted = still_wanted
        self._previous: tuple[int, bytes] | None = None

    def run(
        self,
        after: str = "",
        progress: Progress = lambda _done, _total: None,
        cancelled: Cancelled = lambda: False,
    ) -> Iterator[ScrubResult]:
        """Look at everything that is named above ``after``; the result so far, after each object
        and at the end."""
        result = ScrubResult(cursor=after)
        ahead = {key: one for key, one in self._wanted.items() if key > after}
        absent = deque(sorted(key for key, one in ahead.items() if one.needed))
        total = sum(one.size or 0 for one in ahead.values())
        for info in self._objects.list("", after):
            if cancelled():
                return
            while absent and absent[0] < info.key:
                self._absent(absent.popleft(), result)
            if absent and absent[0] == info.key:
                absent.popleft()
            self._look(info, result)
            progress(result.stored_bytes, max(total, result.stored_bytes))
            yield result
        for key in absent:
            self._absent(key, result)
        result.complete = True
        yield result

    def _absent(self, key: str, result: ScrubResult) -> None:
        if self._objects.size(key) is None and self._still_wanted(key):
            result.damages.append(_found(key, ("missing", "it is gone")))

    def _look(self, info: ObjectInfo, result: ScrubResult) -> None:
        result.objects += 1
        result.cursor = info.key
        try:
            judged = self._judge(info)
        except ObjectMissingError:
            return  # deleted meanwhile; what must be there and is not is noticed by its absence
        result.stored_bytes += info.size
        if judged is not None and self._objects.size(info.key) is not None:
            result.damages.append(_found(info.key, judged))

    def _judge(self, info: ObjectInfo) -> Judged | None:
        room = info.key.partition("/")[0]
        if info.size == 0 and room != "probe":
            return "empty", "it has no bytes"
        if room not in _KINDS:
            return None
        wanted = self._wanted.get(info.key, Wanted(needed=False))
        if room == "packs":
            return self._judge_pack(info, wanted)
        data = self._objects.read(info.key)
        if wanted.size is not None and len(data) < wanted.size:
            return "truncated", f"it has {len(data)} of {wanted.size} bytes"
        try:
            header, length = _header(data, _KINDS[room], self._vault_id)
            if room == "log":
                self._check_record(info.key, header, data)
            elif room == "keyring":
                check_ring_name(info.key, header)
            elif room == "descriptor" and blake3(data[:length]).digest() != data[length:]:
                return "altered", "its hash does not match its bytes"
        except IntegrityError as error:
            return _judged(error)
        if wanted.hash is not None and hash_object(data) != wanted.hash:
            return "altered", "its hash is not the one in the log"
        return None

    def _check_record(self, key: str, header: Header, data: bytes) -> None:
        """A record's number and, after the record before it, its place in the chain."""
        number = layout.log_sequence(key)
        own = int.from_bytes(header.value(TLV_SEQUENCE), "little")
        if number is None or own != number:
            raise IntegrityError(f"it is record {own}", code="ObjectMisplaced")
        before = self._hash_before(number)
        self._previous = (number, hash_object(data))
        if before is not None and header.value(TLV_PREVIOUS) != before:
            raise IntegrityError(
                "it does not continue the record before it: one of the two was altered",
                code="ObjectDamaged",
            )

    def _hash_before(self, number: int) -> bytes | None:
        """The hash of the record before ``number``, of the descriptor for the first; None when that
        is not there, which is told of by itself."""
        if self._previous is not None and self._previous[0] == number - 1:
            return self._previous[1]
        key = layout.log_key(number - 1) if number > 1 else layout.DESCRIPTOR
        try:
            return hash_object(self._objects.read(key))
        except ObjectMissingError:
            return None

    def _judge_pack(self, info: ObjectInfo, wanted: Wanted) -> Judged | None:
        size = info.size
        if wanted.size is not None and size != wanted.size:
            problem: Problem = "truncated" if size < wanted.size else "oversized"
            return problem, f"it has {size} of {wanted.size} bytes"
        if size <= HASH_BYTES or size != padded_size(size):
            return "truncated", f"{size} bytes is no size of a pack"
        head, own, last = self._pack_hash(info.key, size)
        try:
            check_pack_name(info.key, head, self._vault_id)
        except IntegrityError as error:
            return _judged(error)
        if own != last or (wanted.hash is not None and own != wanted.hash):
            return "altered", "its hash does not match its bytes"
        return None

    def _pack_hash(self, key: str, size: int) -> tuple[bytes, bytes, bytes]:
        """(first piece, hash of all bytes before the last 32, the last 32)."""
        hasher, head, tail = blake3(), b"", b""
        for start in range(0, size, PIECE_BYTES):
            piece = self._objects.read_range(key, start, min(PIECE_BYTES, size - start))
            head = head or piece
            data = tail + piece
            hasher.update(memoryview(data)[:-HASH_BYTES])
            tail = data[-HASH_BYTES:]
        return head, hasher.digest(), tail


def check_pack_name(key: str, head: bytes, vault_id: bytes) -> None:
    """Whether a pack's header belongs to its name. IntegrityError (ObjectMisplaced, or as
    ``decode_header``)."""
    header, _ = _header(head, ObjectKind.PACK, vault_id)
    session, pack = header.value(PackTlv.SESSION_ID), header.value(PackTlv.PACK_ID)
    if layout.pack_key(session, pack) != key:
        raise IntegrityError(f"it is pack {pack.hex()}", code="ObjectMisplaced")


def _header(data: bytes, kind: ObjectKind, vault_id: bytes) -> tuple[Header, int]:
    return decode_header(data, kind, vault_id, known=_ANY, operation="check")


def problem_of(error: IntegrityError) -> Problem:
    """The kind of damage an error tells of."""
    named: dict[str, Problem] = {
        "ObjectTruncated": "truncated",
        "ObjectMisplaced": "misplaced",
    }
    return named.get(error.code, "altered")


def _judged(error: IntegrityError) -> Judged | None:
    """What an error says of an object; nothing when a newer version wrote it."""
    return None if error.code == "FormatTooNew" else (problem_of(error), error.message)


def scrub_folder(objects: layout.VaultObjects, vault_id: bytes) -> Scrub:
    """A scrub of a vault nobody has the key of. Where the log ends, its names say: records cut off
    behind are noticed by who has the key."""
    numbers = [layout.log_sequence(info.key) for info in objects.list(layout.LOG)]
    last = max((number for number in numbers if number is not None), default=1)
    wanted = {layout.log_key(number): Wanted() for number in range(1, last + 1)}
    return Scrub(objects, vault_id, {**wanted, layout.DESCRIPTOR: Wanted()})


def scrub_store(store: ObjectStore, only: str = "") -> Iterator[tuple[str, ScrubResult]]:
    """(vault id, what was found) of each vault in a store, or of the one named. NotFoundError
    (VaultMissing)."""
    vaults = [UUID(only).bytes] if only else find_vaults(store)
    if not vaults:
        raise NotFoundError(
            "there is no vault in this store",
            code="VaultMissing",
            hint="Give the vault's folder, or the one it lies in.",
        )
    for vault_id in vaults:
        scrub = scrub_folder(layout.VaultObjects(store, vault_id), vault_id)
        last = deque(scrub.run(), maxlen=1)
        yield str(UUID(bytes=vault_id)), last[0]


def _found(key: str, judged: Judged) -> Damage:
    problem, detail = judged
    return Damage(key=key, problem=problem, detail=detail, recovery_points=(), items=())
