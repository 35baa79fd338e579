"""Receipts: the service's word that a session's pack arrived whole and was checked.

msgpack of ``Receipt`` followed by a 32-byte keyed BLAKE3 under the service ring's receipt key. A
commit accepts only these, so an agent can neither invent a pack nor name another session's.
"""

from __future__ import annotations

import hmac

import msgspec
from blake3 import blake3

from holdfast.errors import AccessError
from holdfast.vaultstore import log
from holdfast.vaultstore.pack_check import PackSummary

_MAC_BYTES = 32


class Receipt(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What was received. Ids 16 bytes, hashes 32."""

    session_id: bytes
    pack_id: bytes
    pack_class: int
    size: int
    hash: bytes
    header_hash: bytes
    trailer_hash: bytes

    def as_added(self) -> log.PackAdded:
        return log.PackAdded(
            pack_id=self.pack_id,
            session_id=self.session_id,
            pack_class=self.pack_class,
            size=self.size,
            hash=self.hash,
            header_hash=self.header_hash,
        )


def receipt_of(summary: PackSummary) -> Receipt:
    return Receipt(
        session_id=summary.session_id,
        pack_id=summary.pack_id,
        pack_class=int(summary.pack_class),
        size=summary.size,
        hash=summary.hash,
        header_hash=summary.header_hash,
        trailer_hash=summary.trailer_hash,
    )


def write_receipt(key: bytes, receipt: Receipt) -> bytes:
    body = msgspec.msgpack.encode(receipt)
    return body + _mac(key, body)


def read_receipt(key: bytes, data: bytes, session_id: bytes) -> Receipt:
    """The receipt, if this service wrote it for this session. AccessError (ReceiptRefused)."""
    body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if hmac.compare_digest(_mac(key, body), mac):
        receipt = msgspec.msgpack.decode(body, type=Receipt)
        if receipt.session_id == session_id:
            return receipt
    raise AccessError(
        "a receipt was not issued by this vault to this session",
        code="ReceiptRefused",
        hint="Send the packs in this session and give the receipts it answers.",
    )


def _mac(key: bytes, body: bytes) -> bytes:
    return blake3(body, key=key).digest()
