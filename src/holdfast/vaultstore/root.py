"""The root of a recovery point: what it consists of, and what was said about it."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.format import CRITICAL, Tlv, decode_tlvs, encode_tlvs

MAGIC = b"HFRT"
TLV_STREAMS, TLV_POINT, TLV_FINDINGS, TLV_OWNERS = 1, 2, 3, 4
_KNOWN = {TLV_STREAMS, TLV_POINT, TLV_FINDINGS, TLV_OWNERS}
MAX_FINDINGS = 10_000


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: file-tree | disk-map | byte-stream | log-range. ``page_root``: 32 bytes."""

    name: str
    kind: str
    page_root: bytes
    logical_bytes: int
    entries: int = 0
    parameters: dict[str, Any] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that could not be done to one path (raw bytes)."""

    code: str
    path: bytes
    message: str


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """``owners`` / ``groups``: id to name at backup time. ``findings`` is cut at MAX_FINDINGS;
    ``findings_count`` is not."""

    streams: tuple[Stream, ...]
    host: str = ""
    platform: str = ""
    include_paths: tuple[bytes, ...] = ()
    exclude_globs: tuple[str, ...] = ()
    consistency: str = "CrashConsistent"
    consistency_reason: str = ""
    tier: str = "vault-standard"
    findings: tuple[Finding, ...] = ()
    findings_count: int = 0
    owners: dict[int, str] = {}
    groups: dict[int, str] = {}
    unknown: tuple[tuple[int, bytes], ...] = ()

    @property
    def file_tree(self) -> Stream:
        """The first stream of kind file-tree. IntegrityError when there is none."""
        for stream in self.streams:
            if stream.kind == "file-tree":
                return stream
        raise IntegrityError("the recovery point holds no file tree", code="ManifestDamaged")


class _Point(msgspec.Struct, kw_only=True):
    host: str
    platform: str
    include_paths: tuple[bytes, ...]
    exclude_globs: tuple[str, ...]
    consistency: str
    consistency_reason: str
    tier: str
    findings_count: int


class _Owners(msgspec.Struct, kw_only=True):
    owners: dict[int, str]
    groups: dict[int, str]


def encode_root(root: Root) -> bytes:
    """magic · u8 version · TLVs with msgpack values; streams are critical."""
    point = _Point(**{name: getattr(root, name) for name in _Point.__struct_fields__})
    encode = msgspec.msgpack.encode
    tlvs = (
        Tlv(TLV_STREAMS | CRITICAL, encode(root.streams)),
        Tlv(TLV_POINT, encode(point)),
        Tlv(TLV_FINDINGS, encode(root.findings[:MAX_FINDINGS])),
        Tlv(TLV_OWNERS, encode(_Owners(owners=root.owners, groups=root.groups))),
        *(Tlv(kind, value) for kind, value in root.unknown),
    )
    return MAGIC + b"\x01" + encode_tlvs(tlvs)


def decode_root(data: Buffer) -> Root:
    """Inverse of ``encode_root``. IntegrityError (ManifestDamaged, FormatTooNew)."""
    data = bytes(data)
    if data[:4] != MAGIC or data[4:5] != b"\x01":
        raise IntegrityError("this is no root of a recovery point", code="ManifestDamaged")
    known: dict[int, bytes] = {}
    unknown = []
    for tlv in decode_tlvs(data[5:]):
        kind = tlv.type & ~CRITICAL
        if kind in _KNOWN:
            known[kind] = tlv.value
        elif tlv.type & CRITICAL:
            raise IntegrityError(
                "the recovery point needs a newer version",
                code="FormatTooNew",
                hint="upgrade Holdfast",
            )
        else:
            unknown.append((tlv.type, tlv.value))
    decode = msgspec.msgpack.decode
    try:
        point = decode(known[TLV_POINT], type=_Point)
        owners = decode(known[TLV_OWNERS], type=_Owners)
        return Root(
            streams=decode(known[TLV_STREAMS], type=tuple[Stream, ...]),
            findings=decode(known[TLV_FINDINGS], type=tuple[Finding, ...]),
            owners=owners.owners,
            groups=owners.groups,
            unknown=tuple(unknown),
            **{name: getattr(point, name) for name in _Point.__struct_fields__},
        )
    except (KeyError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise IntegrityError("a root is damaged", code="ManifestDamaged") from error
