"""Partition tables as Linux numbers them, and which ext file systems may be read the short way."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.adapters.appliance.quick import ext
from holdfast.adapters.appliance.quick.partitions import OddTableError, Span, find_partitions

SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MIB = 1 << 20
SFDISK = shutil.which("sfdisk", path=SEARCH)


def reader(image: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: image[offset : offset + length]


@pytest.mark.skipif(SFDISK is None, reason="needs sfdisk")
@pytest.mark.parametrize(
    "table",
    [
        "label: gpt\nsize=1M\nsize=2M\nsize=3M\n",
        "label: gpt\n3: size=1M\n14: size=1M\n15: size=2M\n1: size=4M\n",
        "label: dos\nsize=2M\nsize=3M,type=82\n",
        "label: dos\n4: size=2M\n2: size=3M\n",
        "label: dos\nsize=2M\nsize=12M,type=5\nsize=1M\nsize=2M\nsize=3M\n",
        "label: dos\n1: size=9M,type=f\n5: size=1M\n6: size=1M\n3: size=1M\n",
    ],
)
def test_partitions_are_those_sfdisk_sees(table: str, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(24 * MIB))
    words = [str(SFDISK), "-q", str(image)]
    subprocess.run(words, input=table.encode(), check=True, capture_output=True)
    told = subprocess.run([str(SFDISK), "-J", str(image)], check=True, capture_output=True)
    rows = json.loads(told.stdout)["partitiontable"]["partitions"]
    seen = [
        Span(int(row["node"].removeprefix(str(image))), row["start"] * 512, row["size"] * 512)
        for row in rows
        if row["type"] not in ("5", "f")
    ]
    found = find_partitions(reader(image.read_bytes()), 24 * MIB)
    assert found == sorted(seen, key=lambda one: one.number)


def test_a_disk_without_a_table_is_one_volume() -> None:
    for head in (b"", bytes(4096), bytes(510) + b"\x55\xaa" + bytes(4096)):
        assert find_partitions(reader(head), MIB) == [Span(0, 0, MIB)]


@given(st.binary(max_size=2048), st.sampled_from(["mbr", "gpt", "any"]), st.integers(0, 1 << 40))
def test_no_table_leads_off_the_disk_or_never_ends(data: bytes, kind: str, size: int) -> None:
    image = bytearray(data.ljust(2048, b"\0"))
    if kind != "any":
        image[510:512] = b"\x55\xaa"
    if kind == "gpt":
        image[512:520] = b"EFI PART"
    try:
        found = find_partitions(reader(bytes(image)), size)
    except OddTableError:
        return
    for one in found:
        assert one.offset >= 0 and one.offset + one.size <= size


def test_a_chain_that_leads_back_ends() -> None:
    sector = bytearray(512)
    sector[510:512] = b"\x55\xaa"
    sector[446:462] = struct.pack("<B3xB3xII", 0, 5, 1, 40)
    link = bytearray(sector)
    link[446:462] = struct.pack("<B3xB3xII", 0, 0x83, 1, 1)
    link[462:478] = struct.pack("<B3xB3xII", 0, 5, 0, 1)
    link[462 + 8 : 462 + 12] = struct.pack("<I", 0)
    image = bytes(sector) + bytes(link) + bytes(512 * 40)
    with pytest.raises(OddTableError):
        find_partitions(reader(image), len(image))


def block(state: int = 1, reading: int = 0x242, writing: int = 0x46B) -> bytes:
    """A super block with the features mkfs.ext4 gives, unless others are named."""
    found = bytearray(1024)
    found[56:58] = ext.MAGIC
    found[58:60] = struct.pack("<H", state)
    found[96:104] = struct.pack("<II", reading, writing)
    return bytes(found)


def test_only_what_is_certain_is_read_the_short_way() -> None:
    assert ext.unsure(block()) == ""
    assert ext.unsure(block(reading=0x2C2)) == "", "64-bit block numbers"
    assert "journal" in ext.unsure(block(reading=0x246))
    assert "clean" in ext.unsure(block(state=0))
    assert "clean" in ext.unsure(block(state=3))
    for feature in (0x1, 0x8, 0x100, 0x400, 0x1000, 0x4000, 0x8000, 0x10000, 0x20000, 1 << 20):
        assert "features" in ext.unsure(block(reading=0x242 | feature)), hex(feature)
    for feature in (0x80, 0x200, 0x1000, 0x8000, 0x10000, 1 << 20):
        assert "features" in ext.unsure(block(writing=0x46B | feature)), hex(feature)
    assert ext.unsure(block()[:100])
    assert ext.unsure(bytes(1024))
