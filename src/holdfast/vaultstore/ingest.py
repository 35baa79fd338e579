"""Ingest: packs arrive, are checked while they stream, and join the vault by a log record.

Order: packs durable, then the table that indexes them, then the record. A crash before the record
leaves objects that no record names, which collect removes once their session has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from holdfast.crashpoint import reach
from holdfast.errors import (
    ConflictError,
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    StoreUnavailableError,
)
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.chain import create_own
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.pack_check import ExpectedPack, PackChecker, PackSummary
from holdfast.vaultstore.receipt import Receipt, read_receipt, receipt_of, write_receipt
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.seal import pack_key
from holdfast.vaultstore.state import LogState, SessionEntry
from holdfast.vaultstore.table import Rows, build_table, encode_table
from holdfast.vaultstore.trailers import read_trailer, table_rows

_COMPARE_BYTES = 4 * 1024 * 1024


class PackReceiver:
    """Takes one pack's bytes while they arrive. Not thread safe. Ended by finish or abort.

    No lock is held while bytes stream."""

    def __init__(self, ingest: Ingest, checker: PackChecker, key: str) -> None:
        self._ingest = ingest
        self._checker = checker
        self._key = key
        self._upload = ingest.objects.upload(key)

    def write(self, data: Buffer) -> None:
        """Append; the buffer may be reused after return. IntegrityError beyond the announced
        size."""
        self._checker.feed(data)
        self._upload.write(data)
        reach("vault.receive.packs")

    def finish(self) -> bytes:
        """Check the whole pack, make it durable, and return its receipt (opaque bytes).

        IntegrityError names the check that failed; nothing is kept then. The same bytes sent again
        give the same receipt; other bytes under a used name are a ConflictError (PackExists)."""
        try:
            summary = self._checker.finish()
            self._ingest.objects.require_vault()
            reach("vault.publish.packs.before")
            publish_or_find(self._ingest.objects, self._upload, self._key, summary)
            reach("vault.publish.packs.after")
        finally:
            self._upload.abort()
        return self._ingest.received(summary)

    def abort(self) -> None:
        """Drop what was received; harmless after finish."""
        self._upload.abort()


def publish_or_find(
    store: ObjectStore, upload: object, key: str, summary: PackSummary | log.PackAdded
) -> None:
    """Publish an upload; after an unclear outcome, compare what is there."""
    try:
        upload.publish()  # type: ignore[attr-defined]
    except (ObjectExistsError, StoreUnavailableError) as error:
        try:
            same = _hash_stored(store, key) == (summary.size, summary.hash)
        except ObjectMissingError:
            raise error from None
        if not same:
            raise ConflictError(
                f"pack {summary.pack_id.hex()} exists with other content",
                code="PackExists",
                hint="Send the chunks in a pack of a new name.",
            ) from error


def _hash_stored(store: ObjectStore, key: str) -> tuple[int, bytes]:
    """Size and hash (of all but the last 32 bytes) of a stored pack."""
    size = store.size(key)
    if size is None:
        raise ObjectMissingError(f"no object {key}")
    hasher = blake3()
    hashed = max(0, size - 32)
    for offset in range(0, hashed, _COMPARE_BYTES):
        hasher.update(store.read_range(key, offset, min(_COMPARE_BYTES, hashed - offset)))
    return size, hasher.digest()


@dataclass(frozen=True, slots=True)
class Arrived:
    """A pack that may join: as the record names it, and its index rows."""

    added: log.PackAdded
    rows: Rows


class Ingest:
    """Receives packs and adds them to the index."""

    def __init__(self, core: VaultCore) -> None:
        self._core = core
        self._arrived: dict[bytes, dict[bytes, Rows]] = {}

    @property
    def objects(self) -> layout.VaultObjects:
        return self._core.objects

    def start_pack(self, session_id: bytes, pack_id: bytes, expected_size: int) -> PackReceiver:
        """Begin to receive a pack of exactly ``expected_size`` bytes."""
        core = self._core
        with core.lock:
            core.refuse_in_doubt()
            entry = core.session(session_id, "backup")
            expected = self.expected(entry, pack_id)
        key = layout.pack_key(session_id, pack_id)
        return PackReceiver(self, PackChecker(expected, expected_size), key)

    def expected(self, entry: SessionEntry, pack_id: bytes) -> ExpectedPack:
        """What a pack of this session must show."""
        opened = entry.opened
        return ExpectedPack(
            vault_id=self._core.vault_id,
            session_id=opened.session_id,
            pack_id=pack_id,
            epoch=opened.epoch,
            wrapped_session_key=opened.wrapped_key,
            session_key=self._core.session_key(opened.session_id),
        )

    def received(self, summary: PackSummary) -> bytes:
        """Remember a checked, durable pack until it joins; its receipt."""
        core = self._core
        with core.lock:
            core.session(summary.session_id, "backup")
            rows = table_rows(summary.rows)
            self._arrived.setdefault(summary.session_id, {})[summary.pack_id] = rows
        return write_receipt(core.rings.service.receipt, receipt_of(summary))

    def checkpoint(self, session_id: bytes, receipts: Sequence[bytes]) -> None:
        """Add the packs of these receipts. Packs that already joined are passed over."""
        core = self._core
        with core.lock:
            core.session(session_id, "backup")
            key = core.rings.service.receipt
            given = {
                receipt.pack_id: receipt
                for receipt in (read_receipt(key, data, session_id) for data in receipts)
                if receipt.pack_id not in core.state.packs
            }
            packs = [self._arrived_pack(receipt) for receipt in given.values()]
        self.add(session_id, packs)
        with core.lock:
            arrived = self._arrived.get(session_id, {})
            for pack_id in given:
                arrived.pop(pack_id, None)

    def forget(self, session_id: bytes) -> None:
        """Drop what was remembered of an ended session."""
        with self._core.lock:
            self._arrived.pop(session_id, None)

    def _arrived_pack(self, receipt: Receipt) -> Arrived:
        rows = self._arrived.get(receipt.session_id, {}).get(receipt.pack_id)
        if rows is None:
            rows = self._read_back(receipt)
        return Arrived(receipt.as_added(), rows)

    def _read_back(self, receipt: Receipt) -> Rows:
        """Rows of a pack received before this process began."""
        core = self._core
        found = read_trailer(
            core.objects,
            layout.pack_key(receipt.session_id, receipt.pack_id),
            receipt.size,
            vault_id=core.vault_id,
            k_pack=pack_key(core.session_key(receipt.session_id), receipt.pack_id),
        )
        if (found.hash, found.trailer_hash) != (receipt.hash, receipt.trailer_hash):
            raise IntegrityError(
                f"pack {receipt.pack_id.hex()} is not the one that was received",
                code="PackDamaged",
            )
        return table_rows(found.rows)

    def add(
        self, session_id: bytes, packs: Sequence[Arrived], ended: Sequence[log.SessionClosed] = ()
    ) -> Sequence[Arrived]:
        """Write the table of these packs and append the record that adds them and, with it, ends
        the sessions they were taken over from. Packs that somebody else added meanwhile, or whose
        session has ended, are passed over; those that joined are returned. Not to be called under
        the lock without need: others cannot write to the log while the table is written."""
        while True:
            joining = [pack for pack in packs if may_join(self._core.state, pack)]
            if self._added(session_id, joining, ended):
                return joining

    def _added(
        self, session_id: bytes, packs: Sequence[Arrived], ended: Sequence[log.SessionClosed]
    ) -> bool:
        """One attempt; False when others' records came first and changed which packs may join."""
        core = self._core
        if not packs:
            if ended:
                core.share(lambda state: still_open(state, ended))
            return True
        overtaken = False
        with core.lock:
            container = core.session(session_id).opened.container
        names = [(pack.added.pack_id, pack.rows) for pack in packs]
        table = build_table(session_id, container, names)
        data = core.seal.seal(ObjectKind.TABLE, encode_table(table))
        table_id = core.rng.token(16)
        create_own(core.objects, layout.table_key(table_id), data)

        def adding(state: LogState) -> Sequence[log.Operation]:
            nonlocal overtaken
            core.session(session_id, "backup")
            overtaken = not all(may_join(state, pack) for pack in packs)
            if overtaken:
                return ()
            core.keep_built(table_id, table)
            added = log.TableAdded(
                table_id=table_id,
                base=state.next_ordinal,
                rows=len(table.rows),
                size=len(data),
                hash=hash_object(data),
            )
            joining = tuple(pack.added for pack in packs)
            operation = log.PacksAdded(session_id=session_id, packs=joining, table=added)
            return (operation, *still_open(state, ended))

        core.share(adding)
        return not overtaken


def may_join(state: LogState, pack: Arrived) -> bool:
    """Whether a record may add the pack: it is in no table, and its session is open."""
    added = pack.added
    return added.pack_id not in state.packs and added.session_id in state.sessions


def still_open(
    state: LogState, ended: Sequence[log.SessionClosed]
) -> tuple[log.SessionClosed, ...]:
    return tuple(op for op in ended if op.session_id in state.sessions)
