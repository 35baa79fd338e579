"""The frame of every object: what is refused, and that no byte can change unseen."""

from __future__ import annotations

import pytest
from blake3 import blake3

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import IntegrityError
from holdfast.vaultstore.descriptor import encode_descriptor, new_descriptor, read_descriptor
from holdfast.vaultstore.format import (
    CRITICAL,
    FIXED_BYTES,
    Header,
    ObjectKind,
    Tlv,
    decode_header,
    decode_tlvs,
    derive,
    encode_header,
    open_object,
    seal_object,
)
from holdfast.vaultstore.values import VaultIds, VaultOptions

VAULT, OTHER = b"v" * 16, b"w" * 16
KEY, SALT = bytes(range(32)), b"s" * 32
HEADER = Header(ObjectKind.TABLE, VAULT, tlvs=(Tlv(5 | CRITICAL, b"known"), Tlv(6, b"spare")))


def code_of(data: bytes, kind: ObjectKind = ObjectKind.TABLE, vault: bytes | None = VAULT) -> str:
    with pytest.raises(IntegrityError) as refused:
        decode_header(data, kind, vault, known=frozenset({5}))
    return refused.value.code


def test_a_header_comes_back_with_what_it_does_not_know() -> None:
    data = encode_header(HEADER)
    header, length = decode_header(data + b"body", ObjectKind.TABLE, VAULT, known=frozenset({5}))
    assert (header, length) == (HEADER, len(data))
    assert header.value(5) == b"known"
    assert encode_header(header) == data
    with pytest.raises(IntegrityError):
        header.value(9)


@pytest.mark.parametrize("length", [0, 1, FIXED_BYTES - 1])
def test_empty_and_short_objects_are_no_objects(length: int) -> None:
    assert code_of(encode_header(HEADER)[:length]) == "ObjectTruncated"


def test_what_a_newer_version_made_is_refused_clearly() -> None:
    data = encode_header(HEADER)
    newer_major = data[:5] + b"\x02" + data[6:]
    assert code_of(newer_major) == "FormatTooNew"
    unknown = encode_header(Header(ObjectKind.TABLE, VAULT, tlvs=(Tlv(7 | CRITICAL, b""),)))
    assert code_of(unknown) == "FormatTooNew"
    with pytest.raises(IntegrityError) as refused:
        decode_header(newer_major, ObjectKind.TABLE, VAULT)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("position", "operation"), [(0, "read"), (1, "write"), (2, "delete"), (3, "check")]
)
def test_an_unknown_feature_forbids_its_operation_alone(position: int, operation: str) -> None:
    bits = [0, 0, 0, 0]
    bits[position] = 1 << 40
    data = encode_header(Header(ObjectKind.TABLE, VAULT, features=tuple(bits)))  # type: ignore[arg-type]
    for other in ("read", "write", "delete", "check"):
        if other == operation:
            with pytest.raises(IntegrityError) as refused:
                decode_header(data, ObjectKind.TABLE, VAULT, operation=other)  # type: ignore[arg-type]
            assert refused.value.code == "FormatTooNew"
        else:
            decode_header(data, ObjectKind.TABLE, VAULT, operation=other)  # type: ignore[arg-type]


def test_objects_of_another_vault_or_kind_are_misplaced() -> None:
    data = encode_header(HEADER)
    assert code_of(data, kind=ObjectKind.REFSET) == "ObjectMisplaced"
    assert code_of(data, vault=OTHER) == "ObjectMisplaced"


def test_a_damaged_length_allocates_nothing() -> None:
    data = bytearray(encode_header(HEADER))
    data[40:44] = b"\xff\xff\xff\xff"
    assert code_of(bytes(data)) == "ObjectTruncated"
    with pytest.raises(IntegrityError):
        decode_tlvs(b"\x01\x00\xff\xff\xff\xffxyz")
    with pytest.raises(IntegrityError):
        decode_tlvs(b"\x01\x00")


def test_no_byte_of_a_sealed_object_can_change() -> None:
    data = seal_object(HEADER, KEY, SALT, b"the body of an object")
    known = frozenset({5})
    header, body = open_object(data, KEY, ObjectKind.TABLE, VAULT, known=known)
    assert (header, body) == (HEADER, b"the body of an object")
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(IntegrityError):
            open_object(changed, KEY, ObjectKind.TABLE, VAULT, known=known)
    for length in range(len(data)):
        with pytest.raises(IntegrityError):
            open_object(data[:length], KEY, ObjectKind.TABLE, VAULT, known=known)
    with pytest.raises(IntegrityError):
        open_object(data + b"\0", KEY, ObjectKind.TABLE, VAULT, known=known)
    with pytest.raises(IntegrityError):
        open_object(data, bytes(32), ObjectKind.TABLE, VAULT, known=known)


def test_equal_bodies_do_not_show_at_rest() -> None:
    one = seal_object(HEADER, KEY, SALT, b"same")
    two = seal_object(HEADER, KEY, b"t" * 32, b"same")
    assert one[-20:] != two[-20:]


def test_derived_keys_depend_on_context_and_on_where_parts_end() -> None:
    keys = {
        derive("a", b"xy"),
        derive("b", b"xy"),
        derive("a", b"x", b"y"),
        derive("a", b"xy", b""),
    }
    assert len(keys) == 4


def test_a_descriptor_with_a_fitting_hash_and_no_sense_is_damaged() -> None:
    """Anyone can make its hash fit; nothing but an integrity error may come of it."""
    store = MemoryStore()
    ids = VaultIds(vault_id=VAULT, domain_id=OTHER)
    good = encode_descriptor(new_descriptor(ids, VaultOptions(), "not probed"))
    for place in range(FIXED_BYTES, len(good) - 32):
        changed = bytearray(good[:-32])
        changed[place] ^= 0x80
        store.objects["descriptor"] = bytes(changed) + blake3(changed).digest()
        try:
            read_descriptor(store, VAULT)
        except IntegrityError:
            continue
