"""The root of a recovery point comes back, keeps what it does not know, refuses what it cannot."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.errors import IntegrityError
from holdfast.vaultstore import root as roots
from holdfast.vaultstore.format import CRITICAL, Tlv, encode_tlvs
from holdfast.vaultstore.root import Finding, Root, Stream, decode_root, encode_root

ROOT = Root(
    streams=(
        Stream(name="files", kind="file-tree", page_root=b"p" * 32, logical_bytes=7, entries=2),
        Stream(
            name="wal",
            kind="log-range",
            page_root=b"q" * 32,
            logical_bytes=9,
            parameters={"engine": "postgresql", "timeline": 3, "first": "0/1", "last": "0/2"},
        ),
    ),
    host="web1",
    platform="linux",
    include_paths=(b"srv/data", b"srv/\xff\xfe"),
    exclude_globs=("*.tmp",),
    consistency="FileSystemConsistent",
    consistency_reason="a btrfs snapshot",
    findings=(Finding(code="FileVanished", path=b"srv/\xff", message="it was gone"),),
    findings_count=20_000,
    owners={0: "root", 4_000_000_000: "someone"},
    groups={0: "root"},
    unknown=((0x77, b"later"),),
)


def test_a_root_comes_back() -> None:
    assert decode_root(encode_root(ROOT)) == ROOT
    assert ROOT.file_tree.name == "files"


def test_findings_are_cut_and_counted() -> None:
    many = tuple(Finding(code="X", path=b"p", message="m") for _ in range(roots.MAX_FINDINGS + 5))
    root = msgspec.structs.replace(ROOT, findings=many, findings_count=len(many))
    found = decode_root(encode_root(root))
    assert (len(found.findings), found.findings_count) == (roots.MAX_FINDINGS, len(many))


def test_a_root_with_a_critical_unknown_field_is_refused() -> None:
    data = encode_root(ROOT) + encode_tlvs((Tlv(0x78 | CRITICAL, b""),))
    with pytest.raises(IntegrityError) as refused:
        decode_root(data)
    assert refused.value.code == "FormatTooNew"


def test_a_damaged_root_raises_nothing_but_integrity_errors() -> None:
    """Its id proves a root; decoding only has to stay within the tree of errors."""
    data = encode_root(ROOT)
    damaged = [data[:length] for length in range(len(data))]
    damaged += [data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :] for at in range(len(data))]
    refused = 0
    for changed in damaged:
        try:
            decode_root(changed)
        except IntegrityError:
            refused += 1
    assert refused > len(data)


def test_a_root_without_a_tree_says_so() -> None:
    root = msgspec.structs.replace(ROOT, streams=ROOT.streams[1:])
    with pytest.raises(IntegrityError):
        _ = root.file_tree
