#!/usr/bin/env python3
"""Reads a vault without the package: lists its recovery points, checks it, restores one of them.

Written from docs/design/vault-format.md alone; needs Python 3.11+ and the wheels blake3,
cryptography and zstandard. What it reads is the vault's folder, the exported key file and the
passphrase (asked for, or from --passphrase-file or HOLDFAST_PASSPHRASE).

    python vault_decoder.py list    --path VAULT --key FILE
    python vault_decoder.py check   --path VAULT --key FILE
    python vault_decoder.py restore --path VAULT --key FILE [--item ITEM]
                                    [--recovery-point ID|latest] --to DIR [--keys KEYS]

Everything is verified while it is read: signatures and hashes of the log, the cipher's tags, the
id of every chunk and the digest of every file. Files appear at DIR/<path without leading slash>,
disks of a machine as sparse images DIR/disk-<number>.raw beside DIR/machine.json. Keys of its
encrypted volumes are unwrapped only with --keys, into KEYS/<name>/<version>.
Exit status: 0 all well, 1 something could not be read or restored (and is named), 2 usage.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import json
import os
import re
import stat
import struct
import sys
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt


class Unreadable(Exception):
    """What the vault holds is not what it must be; the message says what and where."""


# --- primitives -----------------------------------------------------------------------------------

ZERO_NONCE = bytes(12)


def derive(context: str, *parts: bytes) -> bytes:
    hasher = blake3(derive_key_context=f"holdfast vault v1 {context}")
    for part in parts:
        hasher.update(len(part).to_bytes(4, "little") + part)
    return hasher.digest()


def gcm_open(key: bytes, nonce: bytes, sealed: bytes, aad: bytes, what: str) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except (InvalidTag, ValueError):
        raise Unreadable(f"{what} was altered, or is sealed under another key") from None


def check_signature(verifier: bytes, data: bytes, what: str) -> bytes:
    """The bytes before the 64-byte signature at the end of ``data``."""
    try:
        Ed25519PublicKey.from_public_bytes(verifier).verify(data[-64:], data[:-64])
    except (InvalidSignature, ValueError):
        raise Unreadable(f"the signature of {what} is wrong") from None
    return data[:-64]


class MessagePack:
    """The part of MessagePack the format uses."""

    SIZED = {0xC4: (1, bytes), 0xC5: (2, bytes), 0xC6: (4, bytes), 0xD9: (1, str), 0xDA: (2, str),
             0xDB: (4, str), 0xDC: (2, list), 0xDD: (4, list), 0xDE: (2, dict),
             0xDF: (4, dict)}  # fmt: skip
    NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b",
               0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}  # fmt: skip

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @classmethod
    def read(cls, data: bytes) -> Any:
        reader = cls(bytes(data))
        try:
            value = reader.value()
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise Unreadable(f"a value is damaged: {error}") from None
        if reader.at != len(reader.data):
            raise Unreadable("a value is followed by something else")
        return value

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise IndexError("it is cut off")
        return self.data[start : self.at]

    def value(self) -> Any:
        tag = self.take(1)[0]
        if tag < 0x80 or tag >= 0xE0:
            return tag if tag < 0x80 else tag - 256
        if tag < 0xC0:
            kind, count = ((dict, tag & 15) if tag < 0x90 else (list, tag & 15)) \
                if tag < 0xA0 else (str, tag & 31)  # fmt: skip
            return self.sized(kind, count)
        if tag in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[tag]
        if tag in self.SIZED:
            width, kind = self.SIZED[tag]
            return self.sized(kind, int.from_bytes(self.take(width), "big"))
        if tag in self.NUMBERS:
            form = self.NUMBERS[tag]
            return struct.unpack(form, self.take(struct.calcsize(form)))[0]
        raise IndexError(f"type {tag:#x} is unknown")

    def sized(self, kind: type, count: int) -> Any:
        if kind is bytes:
            return self.take(count)
        if kind is str:
            return self.take(count).decode()
        if kind is list:
            return [self.value() for _ in range(count)]
        return {self.value(): self.value() for _ in range(count)}


# --- objects --------------------------------------------------------------------------------------

DESCRIPTOR, KEYRING, PACK, TABLE, REFSET, LOG_RECORD = 1, 2, 3, 4, 5, 6
KINDS = ["", "descriptor", "keyring", "pack", "table", "refset", "log record", "checkpoint"]
HEADER = struct.Struct("<4sBBH4QI16s16s")
TLV = struct.Struct("<HI")


class Header(NamedTuple):
    vault_id: bytes
    domain_id: bytes
    fields: dict[int, bytes]
    length: int


def read_tlvs(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        kind, length = TLV.unpack_from(data, at)
        value = data[at + TLV.size : at + TLV.size + length]
        if len(value) != length:
            raise Unreadable("a header field is cut off")
        found.append((kind, value))
        at += TLV.size + length
    return found


def read_header(data: bytes, kind: int, known: set[int], vault_id: bytes | None) -> Header:
    what = KINDS[kind]
    if len(data) < HEADER.size:
        raise Unreadable(f"a {what} is empty or cut off")
    magic, own, major, _, features, _, _, _, length, vault, domain = HEADER.unpack_from(data)
    if magic != b"HFST" or own != kind or not HEADER.size <= length <= len(data):
        raise Unreadable(f"this is no {what}")
    if major != 1 or features:
        raise Unreadable(f"a newer version made this {what}")
    if vault_id is not None and vault != vault_id:
        raise Unreadable(f"a {what} of another vault")
    fields = {}
    try:
        for field, value in read_tlvs(data[HEADER.size : length]):
            if field & 0x8000 and field & 0x7FFF not in known:
                raise Unreadable(f"a newer version made this {what}")
            fields.setdefault(field & 0x7FFF, value)
    except struct.error:
        raise Unreadable(f"the header of a {what} is damaged") from None
    return Header(vault, domain, fields, length)


def open_sealed(data: bytes, kind: int, key: bytes, vault_id: bytes) -> tuple[Header, bytes]:
    """Sealed object: header | salt (32) | AES-256-GCM(body)."""
    header = read_header(data, kind, {0x20, 0x21, 0x22, 0x23}, vault_id)
    plain, salt = data[: header.length], data[header.length : header.length + 32]
    own = derive("sealed object", key, salt, blake3(plain).digest())
    sealed = data[header.length + 32 :]
    return header, gcm_open(own, ZERO_NONCE, sealed, plain + salt, f"a {KINDS[kind]}")


# --- keys -----------------------------------------------------------------------------------------


class KeyFile(NamedTuple):
    vault_id: bytes
    private: X25519PrivateKey
    verifier: bytes


def open_key_file(path: Path, passphrase: str) -> KeyFile:
    try:
        document = json.loads(path.read_bytes())
        if document["title"] != "holdfast recovery key" or document["version"] != 1:
            raise Unreadable(f"{path} is a key file of an unknown version")
        vault_id = bytes.fromhex(document["vault_id"])
        salt, sealed = (base64.b64decode(document[name]) for name in ("salt", "sealed"))
        cost = document["n"]
        if not (cost <= 2**20 and document["r"] == 8 and document["p"] == 1):
            raise Unreadable(f"the parameters of {path} are out of range")
        key = Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase.encode())
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{path} is no key file: {error}") from None
    try:
        secret = MessagePack.read(AESGCM(key).decrypt(ZERO_NONCE, sealed, vault_id))
    except InvalidTag:
        raise Unreadable("the passphrase does not open the key file") from None
    private = X25519PrivateKey.from_private_bytes(secret["private"])
    return KeyFile(vault_id, private, secret["verifier"])


def open_ring(data: bytes, key_file: KeyFile, number: int) -> dict[str, Any]:
    """Ring: header | msgpack {slots, sealed} | signature."""
    unsigned = check_signature(key_file.verifier, data, "a key ring")
    header = read_header(unsigned, KEYRING, {0x30}, key_file.vault_id)
    plain = unsigned[: header.length]
    if int.from_bytes(header.fields[0x30], "little") != number:
        raise Unreadable("a key ring has another ring's number")
    body = MessagePack.read(unsigned[header.length :])
    public = key_file.private.public_key().public_bytes_raw()
    for slot in body["slots"]:
        if slot["kind"] == "recovery" and slot["public"] == public:
            shared = key_file.private.exchange(X25519PublicKey.from_public_bytes(slot["ephemeral"]))
            key = derive("recovery slot", shared, slot["ephemeral"], public)
            wrapped = slot["wrapped"]
            ring_key = gcm_open(key, wrapped[:12], wrapped[12:], plain, "a key ring's slot")
            own = derive("ring body", ring_key)
            return MessagePack.read(gcm_open(own, ZERO_NONCE, body["sealed"], plain, "a key ring"))
    raise Unreadable("this key file does not open the vault's key ring")


# --- the vault ------------------------------------------------------------------------------------

PACK_FIELDS = set(range(1, 10))
ROW = struct.Struct("<32s16sBBHQIIHI")
ORIGIN = struct.Struct("<16s32s16sI60s")
FOOTER = struct.Struct("<QII16s8s")
COLUMNS = [("offset", 8), ("clen", 4), ("ulen", 4), ("pack", 4), ("frame", 4), ("birth_frame", 4),
           ("writer", 4), ("origin", 2), ("flags", 2), ("kind", 1), ("codec", 1), ("verified", 1),
           ("spare", 1)]  # fmt: skip
DATA, BUNDLE, FILE_PAGE, DISK_PAGE, ROOT = 1, 2, 3, 4, 5
CACHE_BYTES = 96 * 1024 * 1024


class Place(NamedTuple):
    """Where a chunk's frame lies, and what its authenticated data names."""

    pack_id: bytes
    offset: int
    clen: int
    ulen: int
    kind: int
    codec: int
    flags: int
    origin: int
    birth_frame: int


class TableRows:
    """Rows of an index table, unpacked one by one when asked for."""

    def __init__(self, body: bytes) -> None:
        size = int.from_bytes(body[:4], "little")
        header = MessagePack.read(body[4 : 4 + size])
        self.count, self.packs = header["rows"], header["packs"]
        self.ids = body[4 + size : 4 + size + 32 * self.count]
        width = sum(size for _, size in COLUMNS)
        tail = zstandard.ZstdDecompressor().decompress(
            body[4 + size + 48 * self.count :], max_output_size=width * self.count
        )
        if len(tail) != width * self.count:
            raise Unreadable("an index table is cut off")
        self.columns, at = {}, 0
        for name, size in COLUMNS:
            self.columns[name] = tail[at : at + size * self.count]
            at += size * self.count

    def place(self, row: int) -> Place:
        value = {
            name: int.from_bytes(self.columns[name][size * row : size * row + size], "little")
            for name, size in COLUMNS
        }
        return Place(
            self.packs[value["pack"]], value["offset"], value["clen"], value["ulen"],
            value["kind"], value["codec"], value["flags"], value["origin"], value["birth_frame"],
        )  # fmt: skip


class Pack:
    """A pack's header, its key, and the frames of it."""

    def __init__(self, vault: Vault, pack_id: bytes, session_id: bytes) -> None:
        self.vault = vault
        self.id = pack_id
        self.path = vault.path / "packs" / session_id.hex() / pack_id.hex()
        self.file = self.path.open("rb")
        size = int.from_bytes(self.file.read(HEADER.size)[40:44], "little")
        self.file.seek(0)
        self.plain = self.file.read(size)
        header = read_header(self.plain, PACK, PACK_FIELDS, vault.key_file.vault_id)
        if header.fields[1] != pack_id:
            raise Unreadable(f"pack {pack_id.hex()} holds another pack")
        epoch = int.from_bytes(header.fields[4], "little")
        self.key = vault.pack_key(pack_id, header.fields[7], epoch, header.fields[5])
        if derive("key commitment", self.key) != header.fields[6]:
            raise Unreadable(f"pack {pack_id.hex()} is committed to another key")
        self.header_hash = blake3(self.plain).digest()
        self.origins = list(ORIGIN.iter_unpack(header.fields[8]))

    def birth(self, origin: int) -> tuple[bytes, bytes]:
        """Header hash and key of the pack in which frames of this origin were born."""
        if origin == 0:
            return self.header_hash, self.key
        pack_id, header_hash, session_id, epoch, wrapped = self.origins[origin - 1]
        return header_hash, self.vault.pack_key(pack_id, session_id, epoch, wrapped)

    def read(self, place: Place, chunk_id: bytes) -> bytes:
        what = f"chunk {chunk_id.hex()[:16]} in pack {self.id.hex()}"
        self.file.seek(place.offset)
        sealed = self.file.read(place.clen)
        header_hash, key = self.birth(place.origin)
        aad = struct.pack(
            "<32sIB32sIIBH", header_hash, place.birth_frame, place.kind, chunk_id,
            place.clen, place.ulen, place.codec, place.flags,
        )  # fmt: skip
        frame_key = blake3(place.birth_frame.to_bytes(4, "little"), key=key).digest()
        body = gcm_open(frame_key, ZERO_NONCE, sealed, aad, what)
        if place.codec == 1:
            body = zstandard.ZstdDecompressor().decompress(body, max_output_size=place.ulen)
        elif place.codec != 0:
            raise Unreadable(f"{what} uses a codec of a newer version")
        if len(body) != place.ulen or self.vault.chunk_id(place.kind, body) != chunk_id:
            raise Unreadable(f"{what} holds other content than its name says")
        return body

    def trailer(self) -> Iterator[tuple[bytes, Place]]:
        """Rows of the sealed trailer, for when the index table that had them is lost."""
        self.file.seek(-72, os.SEEK_END)
        at, length, _, _, magic = FOOTER.unpack(self.file.read(40))
        if magic != b"HFSTPACK":
            raise Unreadable(f"pack {self.id.hex()} has no footer")
        self.file.seek(at)
        key = derive("trailer key", self.key)
        rows = gcm_open(key, ZERO_NONCE, self.file.read(length), self.plain, "a pack's trailer")
        for row in ROW.iter_unpack(rows):
            chunk_id, _, kind, codec, flags, offset, clen, ulen, origin, birth = row
            yield chunk_id, Place(self.id, offset, clen, ulen, kind, codec, flags, origin, birth)


SAYS_NOTHING_OF_CHUNKS = (
    "vault-opened",
    "session-closed",
    "clock-confirmed",
    "key-exported",
    "head-accepted",
    "immutability-set",
    "points-locked",
    "packs-locked",
)


class Vault:
    """A vault's folder, opened with an exported key: log replayed, index loaded."""

    def __init__(self, path: Path, key_path: Path, passphrase: str) -> None:
        self.path = _vault_folder(path)
        self.key_file = open_key_file(key_path, passphrase)
        self.problems: list[str] = []
        descriptor = (self.path / "descriptor").read_bytes()
        header = read_header(descriptor, DESCRIPTOR, set(range(1, 7)), self.key_file.vault_id)
        if blake3(descriptor[: header.length]).digest() != descriptor[header.length :]:
            raise Unreadable("the vault's descriptor was altered")
        self.service = self._ring("service")
        self.domain = self._ring(f"domain-{header.domain_id.hex()}")
        self.id_keys = {
            kind: derive("chunk id", self.domain["k_id"], bytes([kind])) for kind in range(1, 7)
        }
        self.sessions: dict[bytes, dict[str, Any]] = {}
        self.packs: dict[bytes, dict[str, Any]] = {}
        self.condemned: set[bytes] = set()
        self.tables: dict[bytes, dict[str, Any]] = {}
        self.points: dict[str, dict[str, Any]] = {}
        self._replay(blake3(descriptor).digest())
        self.index: dict[bytes, list[tuple[TableRows | None, Any]]] = {}
        for table_id, added in self.tables.items():
            self._load_table(table_id, added)
        self._open: OrderedDict[bytes, Pack] = OrderedDict()
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cached = 0

    def _ring(self, room: str) -> dict[str, Any]:
        names = sorted(path.name for path in (self.path / "keyring" / room).iterdir())
        newest = (self.path / "keyring" / room / names[-1]).read_bytes()
        return open_ring(newest, self.key_file, int(names[-1]))

    # the log

    def _replay(self, previous: bytes) -> None:
        verifier = Ed25519PrivateKey.from_private_bytes(self.service["sign_seed"]).public_key()
        public = verifier.public_bytes_raw()
        if public != self.key_file.verifier:
            raise Unreadable("the vault is signed by another service than the exported key says")
        term = 0
        names = sorted(path.name for path in (self.path / "log").iterdir())
        for number, name in enumerate(names, start=1):
            what = f"log record {name}"
            try:
                data = (self.path / "log" / name).read_bytes()
                signed = check_signature(public, data, what)
                _, body = open_sealed(
                    signed, LOG_RECORD, self.service["log"], self.key_file.vault_id
                )
                record = MessagePack.read(body)
                chained = record["previous"] == previous and record["sequence"] == number
                if int(name) != number or not chained or record["term"] < term:
                    raise Unreadable(f"{what} does not continue the log")
            except Unreadable as error:
                self.problems.append(f"{error}; what later records say is unknown")
                return
            for operation in record["operations"]:
                self._apply(operation)
            previous, term = blake3(data).digest(), record["term"]

    def _apply(self, operation: dict[str, Any]) -> None:
        name = operation["op"]
        if name == "session-opened":
            self.sessions[operation["session_id"]] = operation
        elif name == "packs-added":
            for pack in operation["packs"]:
                self.packs[pack["pack_id"]] = pack
            self.tables[operation["table"]["table_id"]] = operation
        elif name == "point-committed":
            self.points[operation["rp_id"]] = operation
        elif name == "points-expired":
            for dropped in operation["points"]:
                self.points.pop(dropped["rp_id"], None)
        elif name == "packs-condemned":
            self.condemned.update(operation["packs"])
        elif name == "packs-swept":
            for pack_id in operation["packs"]:
                self.packs.pop(pack_id, None)
            for table_id in operation["tables"]:
                self.tables.pop(table_id, None)
        elif name == "point-repaired":
            if operation["rp_id"] in self.points:
                point = {**self.points[operation["rp_id"]], "refset": operation["refset"]}
                self.points[operation["rp_id"]] = point
        elif name == "table-repaired":
            old = self.tables.pop(operation["table_id"])
            self.tables[operation["table"]["table_id"]] = {**old, "table": operation["table"]}
        elif name == "packs-rewritten":
            made = [one["pack"] for one in operation["packs"]]
            self.packs.update((pack["pack_id"], pack) for pack in made)
            for replaced in operation["tables"]:
                old = self.tables.pop(replaced["table_id"])
                packs = [*old["packs"], *(p for p in made if p["pack_id"] in replaced["packs"])]
                new = {**old, "table": replaced["table"], "packs": packs}
                self.tables[replaced["table"]["table_id"]] = new
        elif name not in SAYS_NOTHING_OF_CHUNKS:
            raise Unreadable(f"a newer version wrote {name!r} into the log")

    # the index

    def _load_table(self, table_id: bytes, added: dict[str, Any]) -> None:
        try:
            data = (self.path / "tables" / table_id.hex()).read_bytes()
            if blake3(data).digest() != added["table"]["hash"]:
                raise Unreadable(f"table {table_id.hex()} is not the one in the log")
            _, body = open_sealed(data, TABLE, self.service["table"], self.key_file.vault_id)
            rows = TableRows(body)
        except (OSError, Unreadable, zstandard.ZstdError) as error:
            self.problems.append(f"{error}; its rows are read from the packs' trailers")
            self._load_trailers(added)
            return
        for row in range(rows.count):
            chunk_id = rows.ids[32 * row : 32 * row + 32]
            self.index.setdefault(chunk_id, []).append((rows, row))

    def _load_trailers(self, added: dict[str, Any]) -> None:
        for pack in added["packs"]:
            try:
                found = Pack(self, pack["pack_id"], pack["session_id"])
                for chunk_id, place in found.trailer():
                    self.index.setdefault(chunk_id, []).append((None, place))
            except (OSError, Unreadable) as error:
                self.problems.append(str(error))

    def pack_key(self, pack_id: bytes, session_id: bytes, epoch: int, wrapped: bytes) -> bytes:
        return derive("pack key", self.session_key(session_id, epoch, wrapped), pack_id)

    def session_key(self, session_id: bytes, epoch: int, wrapped: bytes) -> bytes:
        opened = self.sessions.get(session_id)
        key = self.domain["epochs"].get(epoch)
        if opened is None or key is None:
            what = f"session {session_id.hex()}"
            raise Unreadable(f"the key of {what} is in no ring and no log record")
        binding = self.key_file.vault_id + session_id + epoch.to_bytes(4, "little")
        binding += opened["container"].encode()
        return gcm_open(key, wrapped[:12], wrapped[12:], binding, "a session key")

    def chunk_id(self, kind: int, data: bytes) -> bytes:
        return blake3(data, key=self.id_keys[kind]).digest()

    def chunk(self, chunk_id: bytes, kinds: tuple[int, ...]) -> bytes:
        """A chunk's content, verified. Any readable copy will do."""
        found = self._cache.get(chunk_id)
        if found is not None:
            self._cache.move_to_end(chunk_id)
            return found
        problem: Exception = Unreadable(f"chunk {chunk_id.hex()[:16]} is in no table of the vault")
        places = [
            rows.place(row) if rows is not None else row
            for rows, row in self.index.get(chunk_id, ())
        ]
        for place in sorted(places, key=lambda place: place.pack_id in self.condemned):
            try:
                if place.kind not in kinds:
                    raise Unreadable(f"chunk {chunk_id.hex()[:16]} is of another kind")
                data = self._pack(place.pack_id).read(place, chunk_id)
            except (OSError, Unreadable, zstandard.ZstdError, KeyError) as error:
                problem = error
                continue
            self._cache[chunk_id] = data
            self._cached += len(data)
            while self._cached > CACHE_BYTES:
                self._cached -= len(self._cache.popitem(last=False)[1])
            return data
        raise Unreadable(str(problem))

    def _pack(self, pack_id: bytes) -> Pack:
        if pack_id not in self._open:
            self._open[pack_id] = Pack(self, pack_id, self.packs[pack_id]["session_id"])
            if len(self._open) > 64:
                self._open.popitem(last=False)[1].file.close()
        self._open.move_to_end(pack_id)
        return self._open[pack_id]

    # what may be asked

    def find_point(self, item: str | None, wanted: str) -> dict[str, Any]:
        points = [
            point
            for point in self.points.values()
            if item is None
            or point["item_key"] == item
            or point["item_key"].lower().rpartition(";")[2] == item.lower()
        ]
        if wanted != "latest":
            points = [point for point in points if point["rp_id"] == wanted]
        if not points:
            raise Unreadable("the vault has no such recovery point; `list` shows what it has")
        items = {point["item_key"] for point in points}
        if len(items) > 1 and item is not None:
            raise Unreadable(f"several items have this name: {', '.join(sorted(items))}")
        return max(points, key=lambda point: int(point["rp_id"]))

    def root(self, point: dict[str, Any]) -> dict[int, bytes]:
        """The root: 'HFRT' · version · TLVs."""
        data = self.chunk(point["root_id"], (ROOT,))
        if data[:5] != b"HFRT\x01":
            raise Unreadable("a newer version made this recovery point")
        fields = {}
        for kind, value in read_tlvs(data[5:]):
            if kind & 0x8000 and kind & 0x7FFF not in (1, 2, 3, 4):
                raise Unreadable("a newer version made this recovery point")
            fields[kind & 0x7FFF] = value
        return fields

    def check(self) -> int:
        """Hash every pack and open every frame of it; hash refsets. Number of problems."""
        for point in self.points.values():
            name = point["refset"]["name"]
            try:
                if (
                    blake3((self.path / "refsets" / name).read_bytes()).digest()
                    != point["refset"]["hash"]
                ):
                    raise Unreadable(f"refset {name} is damaged (restores do not need it)")
            except (OSError, Unreadable) as error:
                self.problems.append(str(error))
        for pack_id, pack in self.packs.items():
            try:
                found = Pack(self, pack_id, pack["session_id"])
                found.file.seek(0)
                hasher, left = blake3(), pack["size"] - 32
                while left and (piece := found.file.read(min(left, 4 * 1024 * 1024))):
                    hasher.update(piece)
                    left -= len(piece)
                if hasher.digest() != pack["hash"] or found.file.read() != pack["hash"]:
                    raise Unreadable(f"pack {pack_id.hex()} is damaged")
                for chunk_id, place in found.trailer():
                    found.read(place, chunk_id)
                found.file.close()
            except (OSError, Unreadable, zstandard.ZstdError) as error:
                self.problems.append(str(error))
        return len(self.problems)


def _vault_folder(path: Path) -> Path:
    if (path / "descriptor").exists():
        return path
    inside = [entry for entry in path.iterdir() if (entry / "descriptor").exists()]
    if len(inside) != 1:
        raise Unreadable(f"{path} is no vault's folder (it has no file named descriptor)")
    return inside[0]


# --- the file tree --------------------------------------------------------------------------------

FILE, DIRECTORY, SYMLINK, FIFO, CHARACTER, BLOCK = range(1, 7)
ENTRY = struct.Struct("<BBHHIIqQ")
EXTENT = struct.Struct("<IIQI")


class Entry:
    """One name in a directory. Extents: (chunk id, offset in chunk, offset in file, length)."""

    def __init__(self, name: bytes, values: tuple[int, ...]) -> None:
        self.name = name
        self.type, _, _, self.mode, self.uid, self.gid, self.mtime_ns, self.size = values
        self.digest = self.target = b""
        self.extents: list[tuple[bytes, int, int, int]] = []
        self.group = self.rdev = 0
        self.xattrs: dict[bytes, bytes] = {}


class Reader:
    """A cursor over a segment."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def unpack(self, form: str) -> tuple[Any, ...]:
        form = "<" + form
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise Unreadable("a segment is cut off")
        return self.data[start : self.at]


def walk(vault: Vault, page_id: bytes, problems: list[str]) -> Iterator[tuple[bytes, list[Entry]]]:
    """(directory path, its entries or a run of them) in tree order. What cannot be read is named
    in ``problems``; the rest follows."""
    try:
        page = Reader(vault.chunk(page_id, (FILE_PAGE,)))
        kind, version = page.unpack("cB")
        if version != 1 or kind not in (b"L", b"I"):
            raise Unreadable("a newer version made this tree")
        below = read_inner(page) if kind == b"I" else []
        leaf = read_leaf(vault, page) if kind == b"L" else []
    except (Unreadable, struct.error, IndexError) as error:
        problems.append(f"a part of the tree cannot be read: {error}")
        return
    yield from leaf
    for child in below:
        yield from walk(vault, child, problems)


def read_inner(page: Reader) -> list[bytes]:
    """Ids of the pages below."""
    _, count = page.unpack("BI")
    found = []
    for _ in range(count):
        page.take(page.unpack("I")[0])
        found.append(page.unpack("32sQQ")[0])
    return found


def read_leaf(vault: Vault, page: Reader) -> list[tuple[bytes, list[Entry]]]:
    (count,) = page.unpack("I")
    return [read_segment(vault, page.take(length)) for length in page.unpack(f"{count}I")]


def read_segment(vault: Vault, data: bytes) -> tuple[bytes, list[Entry]]:
    segment = Reader(data)
    version, length = segment.unpack("BI")
    if version != 1:
        raise Unreadable("a newer version made this tree")
    path = segment.take(length)
    count, chunks, pages, _ = segment.unpack("IIIQ")
    ids = [segment.take(32) for _ in range(chunks)]
    extent_pages = [segment.take(32) for _ in range(pages)]
    entries = [read_entry(vault, segment, ids, extent_pages) for _ in range(count)]
    return path, entries


def read_entry(vault: Vault, data: Reader, ids: list[bytes], pages: list[bytes]) -> Entry:
    values = data.unpack("BBHHIIqQ")
    entry, bits = Entry(data.take(values[2]), values), values[1]
    if entry.name in (b"", b".", b"..") or b"/" in entry.name or b"\0" in entry.name:
        raise Unreadable(f"{entry.name!r} is no name")
    if bits & 1:
        entry.digest = data.take(32)
    if bits & 2:
        chunk, offset = data.unpack("II")
        entry.extents = [(ids[chunk], offset, 0, entry.size)]
    if bits & 4:
        rows = EXTENT.iter_unpack(data.take(data.unpack("I")[0] * EXTENT.size))
        entry.extents = [(ids[chunk], *row) for chunk, *row in rows]
    if bits & 8:
        first, count = data.unpack("II")
        for page_id in pages[first : first + count]:
            entry.extents += read_extent_page(vault.chunk(page_id, (FILE_PAGE,)))
    if bits & 16:
        entry.target = data.take(data.unpack("H")[0])
    if bits & 32:
        (entry.group,) = data.unpack("Q")
    if bits & 64:
        for _ in range(data.unpack("H")[0]):
            name = data.take(data.unpack("H")[0])
            entry.xattrs[name] = data.take(data.unpack("I")[0])
    if bits & 128:
        for kind, value in read_tlvs(data.take(data.unpack("I")[0])):
            if kind == 1:
                entry.rdev = int.from_bytes(value, "little")
    return entry


def read_extent_page(page: bytes) -> list[tuple[bytes, int, int, int]]:
    data = Reader(page)
    magic, chunks, count = data.unpack("cII")
    if magic != b"X":
        raise Unreadable("this is no page of extents")
    ids = [data.take(32) for _ in range(chunks)]
    rows = EXTENT.iter_unpack(data.take(count * EXTENT.size))
    return [(ids[chunk], *row) for chunk, *row in rows]


# --- restoring ------------------------------------------------------------------------------------


class Restorer:
    """Writes a tree below one new directory; never follows a link on the way."""

    FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

    def __init__(self, vault: Vault, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise Unreadable(f"{target} is not empty")
        self.vault = vault
        self.top = os.open(target, self.FLAGS)
        self.root = os.geteuid() == 0
        self.failures: list[str] = []
        self.directories: list[tuple[bytes, Entry]] = []
        self.groups: dict[int, bytes] = {}
        self.files = self.bytes = 0

    def run(self, page_root: bytes) -> None:
        for path, entries in walk(self.vault, page_root, self.failures):
            try:
                folder = self.open_folder(path)
            except OSError as error:
                self.failures.append(f"{os.fsdecode(path)}: {error}")
                continue
            for entry in entries:
                self.one(folder, path, entry)
            os.close(folder)
        for path, entry in reversed(self.directories):
            try:
                folder = self.open_folder(path)
                self.attributes(folder, entry, os.fsdecode(path))
                os.close(folder)
            except OSError as error:
                self.failures.append(f"{os.fsdecode(path)}: {error}")

    def open_folder(self, path: bytes) -> int:
        folder = os.dup(self.top)
        for part in path.split(b"/") if path else []:
            try:
                inner = os.open(part, self.FLAGS, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder

    def one(self, folder: int, path: bytes, entry: Entry) -> None:
        full = path + b"/" + entry.name if path else entry.name
        try:
            if entry.type == DIRECTORY:
                os.mkdir(entry.name, 0o700, dir_fd=folder)
                self.directories.append((full, entry))
            elif entry.group and entry.group in self.groups:
                self.link(folder, entry)
            elif entry.type == FILE:
                self.file(folder, entry, os.fsdecode(full))
                if entry.group:
                    self.groups[entry.group] = full
            else:
                self.special(folder, entry)
        except (OSError, Unreadable) as error:
            self.failures.append(f"{os.fsdecode(full)}: {error}")

    def link(self, folder: int, entry: Entry) -> None:
        first_path, _, first_name = self.groups[entry.group].rpartition(b"/")
        source = self.open_folder(first_path)
        try:
            os.link(first_name, entry.name, src_dir_fd=source, dst_dir_fd=folder)
        finally:
            os.close(source)

    def file(self, folder: int, entry: Entry, shown: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(entry.name, flags, 0o600, dir_fd=folder)
        try:
            self.content(fd, entry)
            self.attributes(fd, entry, shown)
        except (OSError, Unreadable):
            os.unlink(entry.name, dir_fd=folder)
            raise
        finally:
            os.close(fd)
        self.files += 1
        self.bytes += entry.size

    def content(self, fd: int, entry: Entry) -> None:
        hasher, done = blake3(key=self.vault.id_keys[DATA]), 0
        for chunk_id, offset, at, length in entry.extents:
            data = memoryview(self.vault.chunk(chunk_id, (DATA, BUNDLE)))[offset : offset + length]
            if at < done or len(data) != length:
                raise Unreadable("its extents do not fit its chunks")
            hasher.update(data)
            while data:
                written = os.pwrite(fd, data, at)
                data, at = data[written:], at + written
            done = at
        if done > entry.size:
            raise Unreadable("its extents are longer than the file")
        if entry.digest and hasher.digest() != entry.digest:
            raise Unreadable("its content is not what its digest says")
        os.ftruncate(fd, entry.size)

    def special(self, folder: int, entry: Entry) -> None:
        if entry.type == SYMLINK:
            os.symlink(entry.target, entry.name, dir_fd=folder)
        elif entry.type == FIFO:
            os.mkfifo(entry.name, 0o600, dir_fd=folder)
        elif entry.type in (CHARACTER, BLOCK):
            kind = stat.S_IFCHR if entry.type == CHARACTER else stat.S_IFBLK
            os.mknod(entry.name, kind | 0o600, entry.rdev, dir_fd=folder)
        else:
            raise Unreadable(f"type {entry.type} is of a newer version")
        if self.root:
            os.chown(entry.name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.type != SYMLINK:
            os.chmod(entry.name, entry.mode, dir_fd=folder)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(entry.name, ns=times, dir_fd=folder, follow_symlinks=False)

    def attributes(self, fd: int, entry: Entry, shown: str) -> None:
        """Owner (as root), mode, extended attributes, times, in this order."""
        if self.root:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for name, value in entry.xattrs.items():
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                self.failures.append(f"{shown}: attribute {os.fsdecode(name)}: {error.strerror}")
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


# --- disks and streams ----------------------------------------------------------------------------

LEAF_BLOCKS, FANOUT = 1024, 256
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
KEYS = "machine.keys"
FLAGS_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """A disk map: blocks of 2^grid bytes, their data chunks found through fixed pages."""

    def __init__(self, vault: Vault, stream: dict[str, Any]) -> None:
        self.vault = vault
        self.size, self.grid = (stream["parameters"][name] for name in ("size", "grid_exponent"))
        if not 0 <= self.size <= 1 << 62 or not 12 <= self.grid <= 23:
            raise Unreadable("its size or grid is out of range")
        self.blocks = -(-self.size >> self.grid) if self.size else 0
        leaves, self.level, spanned = max(1, -(-self.blocks // LEAF_BLOCKS)), 0, 1
        while spanned < leaves:
            self.level, spanned = self.level + 1, spanned * FANOUT
        self.root = stream["page_root"]

    def data(self) -> Iterator[tuple[int, bytes]]:
        """(block, chunk id) of all data, in order."""
        yield from self.below(self.root, self.level, 0)

    def below(self, page_id: bytes, level: int, first: int) -> Iterator[tuple[int, bytes]]:
        """Data below a page whose region begins at block ``first``."""
        page = Reader(self.vault.chunk(page_id, (DISK_PAGE,)))
        if level == 0:
            yield from self.leaf(page, first)
            return
        magic, version, own, spare, count = page.unpack("cBBBI")
        span = LEAF_BLOCKS * FANOUT ** (level - 1)
        if (magic, version, own, spare) != (b"M", 1, level, 0):
            raise Unreadable("a page of the disk's map is none")
        if count != min(FANOUT, -(-(self.blocks - first) // span)):
            raise Unreadable("a page of the disk's map lies elsewhere")
        for number in range(count):
            state, child = page.unpack("B32s")
            if state > 2:
                raise Unreadable("a newer version made this disk map")
            if state == 2:
                yield from self.below(child, level - 1, first + number * span)

    def leaf(self, page: Reader, first: int) -> Iterator[tuple[int, bytes]]:
        magic, version, grid, spare, begins, count = page.unpack("cBBBQI")
        if (magic, version, grid, spare, begins) != (b"D", 1, self.grid, 0, first):
            raise Unreadable("a leaf of the disk's map is none, or lies elsewhere")
        if count != min(LEAF_BLOCKS, self.blocks - first):
            raise Unreadable("a leaf of the disk's map has another length")
        for number, state in enumerate(page.take(count)):
            if state > 2:
                raise Unreadable("a newer version made this disk map")
            if state == 2:
                yield first + number, page.take(32)
        if page.at != len(page.data):
            raise Unreadable("a leaf of the disk's map is too long")


def restore_disk(vault: Vault, stream: dict[str, Any], target: Path) -> tuple[int, list[str]]:
    """Write a disk as a sparse file: bytes written, and blocks that could not be read."""
    disk, written, failures = Disk(vault, stream), 0, []
    fd = os.open(target, FLAGS_NEW, 0o600)
    try:
        os.ftruncate(fd, disk.size)
        for block, chunk_id in disk.data():
            start = block << disk.grid
            try:
                data = memoryview(vault.chunk(chunk_id, (DATA,)))
                if len(data) != min(1 << disk.grid, disk.size - start):
                    raise Unreadable("its chunk has another length")
            except Unreadable as error:
                failures.append(f"{target.name}: block {block}: {error}")
                continue
            while data:
                count = os.pwrite(fd, data, start)
                data, start, written = data[count:], start + count, written + count
        os.fsync(fd)
    finally:
        os.close(fd)
    return written, failures


def stream_extents(vault: Vault, page_id: bytes, level: int | None) -> Iterator[tuple[Any, ...]]:
    """Extents of a byte stream in order; ``level`` of the page, None when any will do."""
    data = vault.chunk(page_id, (FILE_PAGE,))
    if data[:1] == b"X" and not level:
        yield from read_extent_page(data)
        return
    page = Reader(data)
    magic, version, own, count = page.unpack("cBBI")
    if magic != b"S" or version != 1 or not own or level not in (None, own):
        raise Unreadable("a page of a byte stream is none")
    for _ in range(count):
        child, _ = page.unpack("32sQ")
        yield from stream_extents(vault, child, own - 1)


def stream_data(vault: Vault, stream: dict[str, Any]) -> Iterator[bytes]:
    """The bytes of a byte stream, in order."""
    done = 0
    for chunk_id, offset, at, length in stream_extents(vault, stream["page_root"], None):
        data = vault.chunk(chunk_id, (DATA,))[offset : offset + length]
        if at != done or len(data) != length:
            raise Unreadable("its extents do not follow each other")
        done += length
        yield data
    if done != stream["logical_bytes"]:
        raise Unreadable("it is not as long as the root says")


def restore_stream(vault: Vault, stream: dict[str, Any], target: Path) -> int:
    """Write a byte stream as a file; its length."""
    with os.fdopen(os.open(target, FLAGS_NEW, 0o600), "wb") as file:
        return sum(file.write(data) for data in stream_data(vault, stream))


def restore_keys(vault: Vault, point: dict[str, Any], stream: dict[str, Any], target: Path) -> int:
    """Unwrap a machine's keys into ``target``/name/version; their length."""
    opened = vault.sessions[point["session_id"]]
    session_key = vault.session_key(point["session_id"], opened["epoch"], opened["wrapped_key"])
    data = b"".join(stream_data(vault, stream))
    head, salt, sealed = data[:2], data[2:34], data[34:]
    if head != b"K\x01":
        raise Unreadable("a newer version wrapped these keys")
    own = derive("machine keys body", derive("machine keys", session_key), salt)
    body = gcm_open(own, ZERO_NONCE, sealed, head + vault.key_file.vault_id, "a machine's keys")
    written = 0
    for key in MessagePack.read(body):
        if not NAME.fullmatch(key["name"]) or not NAME.fullmatch(key["version"]):
            raise Unreadable("a key's name is no name of a file")
        (target / key["name"]).mkdir(mode=0o700, parents=True, exist_ok=True)
        place = target / key["name"] / key["version"]
        with os.fdopen(os.open(place, FLAGS_NEW, 0o600), "wb") as file:
            written += file.write(key["value"])
    return written


# --- the program ----------------------------------------------------------------------------------


def moment(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def list_points(vault: Vault) -> None:
    print(f"{'RECOVERY POINT':24} {'TIME':20} {'BYTES':>16}  ITEM")
    for point in sorted(vault.points.values(), key=lambda point: int(point["rp_id"])):
        time = moment(point["time_ns"])
        print(f"{point['rp_id']:24} {time:20} {point['logical_bytes']:16}  {point['item_key']}")


def restore(
    vault: Vault, item: str | None, wanted: str, target: Path, keys: Path | None
) -> list[str]:
    point = vault.find_point(item, wanted)
    print(f"restoring {point['item_key']} as of {moment(point['time_ns'])} to {target}")
    restorer = Restorer(vault, target)
    for stream in MessagePack.read(vault.root(point)[1]):
        if stream["kind"] == "file-tree":
            restorer.run(stream["page_root"])
        elif stream["name"] != KEYS:
            other_stream(restorer, stream, target)
        elif keys is not None:
            try:
                keys.mkdir(mode=0o700, parents=True, exist_ok=True)
                restorer.bytes += restore_keys(vault, point, stream, keys)
            except (OSError, Unreadable, KeyError, TypeError) as error:
                restorer.failures.append(f"keys: {error}")
    print(f"{restorer.files} files, {restorer.bytes} bytes, {len(restorer.failures)} problems")
    return restorer.failures


def other_stream(restorer: Restorer, stream: dict[str, Any], target: Path) -> None:
    """A disk or a byte stream, into a file of its name."""
    name, kind, failures = stream["name"], stream["kind"], []
    try:
        if not NAME.fullmatch(name):
            raise Unreadable("its name is no name of a file")
        if kind == "disk-map":
            size, failures = restore_disk(restorer.vault, stream, target / f"{name}.raw")
        elif kind == "byte-stream":
            size = restore_stream(restorer.vault, stream, target / name)
        else:
            raise Unreadable(f"streams of kind {kind} are not restored")
        restorer.files += 1
        restorer.bytes += size
    except (OSError, Unreadable, KeyError, TypeError, struct.error) as error:
        failures.append(f"stream {name!r}: {error}")
    restorer.failures += failures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["list", "check", "restore"])
    parser.add_argument("--path", type=Path, required=True, help="the vault's folder")
    parser.add_argument("--key", type=Path, required=True, help="the exported key file")
    parser.add_argument("--passphrase-file", type=Path, help="its first line is the passphrase")
    parser.add_argument("--item", help="whole item key, or the item's name")
    parser.add_argument("--recovery-point", default="latest", help="an id, or latest")
    parser.add_argument("--to", type=Path, help="where to restore to: a new or empty folder")
    parser.add_argument("--keys", type=Path, help="also restore a machine's keys, into this folder")
    found = parser.parse_args()
    if (found.command == "restore") != (found.to is not None):
        parser.error("--to goes with restore, and restore needs it")
    return found


def passphrase_of(arguments: argparse.Namespace) -> str:
    if arguments.passphrase_file is not None:
        return arguments.passphrase_file.read_text().splitlines()[0]
    return os.environ.get("HOLDFAST_PASSPHRASE") or getpass.getpass("Passphrase: ")


def main() -> int:
    arguments = parse()
    try:
        vault = Vault(arguments.path, arguments.key, passphrase_of(arguments))
        failures: list[str] = []
        if arguments.command == "list":
            list_points(vault)
        elif arguments.command == "check":
            vault.check()
            print(f"{len(vault.packs)} packs, {len(vault.points)} recovery points")
        else:
            asked = (arguments.item, arguments.recovery_point, arguments.to, arguments.keys)
            failures = restore(vault, *asked)
    except (OSError, Unreadable, struct.error, KeyError, IndexError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in [*vault.problems, *failures]:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if vault.problems or failures else 0


if __name__ == "__main__":
    sys.exit(main())
