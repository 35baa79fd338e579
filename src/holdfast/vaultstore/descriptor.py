"""The vault descriptor: what a vault is, readable without any key.

header with TLVs | BLAKE3 of all before. Its hash is the ``previous`` of the first log record, so it
cannot be exchanged under a vault.
"""

from __future__ import annotations

import msgspec
from blake3 import blake3

from holdfast.errors import IntegrityError, NotFoundError, ObjectMissingError
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import chunker, layout
from holdfast.vaultstore.format import (
    CRITICAL,
    Header,
    ObjectKind,
    Tlv,
    decode_header,
    encode_header,
)
from holdfast.vaultstore.values import VaultIds, VaultOptions

TLV_TENANT, TLV_SUBSCRIPTION, TLV_OPTIONS, TLV_CHUNKER, TLV_ALGORITHMS, TLV_PROBE = range(1, 7)
_KNOWN = frozenset(range(1, 7))
_GOLDEN_SEED = 1  # public: the cut points show the library's behaviour, not the vault's seed


class Chunker(msgspec.Struct, frozen=True, kw_only=True):
    """How content is cut. ``golden_cuts``: over a fixed stream with a fixed seed."""

    name: str
    min_bytes: int
    average_bytes: int
    max_bytes: int
    golden_cuts: tuple[int, ...]


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    """``probe``: what the store was found to do at creation. ``hash``: of the stored object."""

    ids: VaultIds
    options: VaultOptions
    chunker: Chunker
    algorithms: tuple[str, ...]
    probe: str
    hash: bytes = b""


def new_descriptor(ids: VaultIds, options: VaultOptions, probe: str) -> Descriptor:
    cutting = Chunker(
        name=chunker.CHUNKER_NAME,
        min_bytes=chunker.MIN_CHUNK,
        average_bytes=chunker.AVERAGE_CHUNK,
        max_bytes=chunker.MAX_CHUNK,
        golden_cuts=tuple(chunker.golden_cuts(_GOLDEN_SEED)),
    )
    names = ("blake3", "aes-256-gcm", "zstd", "ed25519", "x25519", "scrypt")
    return Descriptor(ids=ids, options=options, chunker=cutting, algorithms=names, probe=probe)


def encode_descriptor(descriptor: Descriptor) -> bytes:
    encode = msgspec.msgpack.encode
    tlvs = (
        Tlv(TLV_TENANT | CRITICAL, descriptor.ids.tenant_id),
        Tlv(TLV_SUBSCRIPTION | CRITICAL, descriptor.ids.subscription_id),
        Tlv(TLV_OPTIONS, encode(descriptor.options)),
        Tlv(TLV_CHUNKER | CRITICAL, encode(descriptor.chunker)),
        Tlv(TLV_ALGORITHMS | CRITICAL, encode(descriptor.algorithms)),
        Tlv(TLV_PROBE, descriptor.probe.encode()),
    )
    ids = descriptor.ids
    plain = encode_header(Header(ObjectKind.DESCRIPTOR, ids.vault_id, ids.domain_id, tlvs))
    return plain + blake3(plain).digest()


def read_descriptor(store: ObjectStore, vault_id: bytes) -> Descriptor:
    """The descriptor in a vault's folder. NotFoundError (VaultMissing), IntegrityError."""
    try:
        data = store.read(layout.DESCRIPTOR)
    except ObjectMissingError as error:
        raise NotFoundError(
            f"there is no vault {layout.vault_prefix(vault_id).rstrip('/')} in this store",
            code="VaultMissing",
            hint="The vault's folder was moved or is not mounted; nothing was written.",
        ) from error
    header, length = decode_header(data, ObjectKind.DESCRIPTOR, vault_id, known=_KNOWN)
    if blake3(data[:length]).digest() != data[length:]:
        raise IntegrityError("the vault's descriptor was altered", code="ObjectDamaged")
    decode = msgspec.msgpack.decode
    try:
        return Descriptor(
            ids=VaultIds(
                vault_id=vault_id,
                domain_id=header.domain_id,
                tenant_id=header.value(TLV_TENANT),
                subscription_id=header.value(TLV_SUBSCRIPTION),
            ),
            options=decode(header.value(TLV_OPTIONS), type=VaultOptions),
            chunker=decode(header.value(TLV_CHUNKER), type=Chunker),
            algorithms=decode(header.value(TLV_ALGORITHMS), type=tuple[str, ...]),
            probe=header.value(TLV_PROBE).decode(),
            hash=blake3(data).digest(),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise IntegrityError("the vault's descriptor is damaged", code="ObjectDamaged") from error
