"""A disk's map against a plain list of blocks: written, re-used, read anywhere, compared."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import IntegrityError, InternalError, UsageError
from holdfast.vaultstore import disk_pages, manifest_disk
from holdfast.vaultstore.disk_pages import (
    BlockState,
    Child,
    Geometry,
    Leaf,
    decode_leaf,
    decode_map,
    encode_leaf,
    encode_map,
    geometry_of,
)
from holdfast.vaultstore.manifest_disk import (
    DiskMap,
    DiskMapWriter,
    Tally,
    differing_runs,
    disk_stream,
    open_disk_map,
)
from holdfast.vaultstore.manifest_pages import page_references
from holdfast.vaultstore.root import Stream

GRID = 12
Blocks = list[int]  # 0 unallocated, 1 zero, above: data of that content


class Pages(dict[bytes, bytes]):
    """A page store by content hash that counts reads."""

    reads = 0

    def put(self, page: bytes) -> bytes:
        name = blake2b(page, digest_size=32).digest()
        self[name] = page
        return name

    def get_page(self, page_id: bytes) -> bytes:
        self.reads += 1
        return self[page_id]


def chunk(content: int) -> bytes:
    return content.to_bytes(32, "big")


def leaf_of(blocks: Blocks, index: int, per_leaf: int) -> Leaf:
    part = blocks[index * per_leaf : (index + 1) * per_leaf]
    states = np.array([min(one, 2) for one in part], np.uint8)
    ids = b"".join(chunk(one) for one in part if one > 1)
    return Leaf(GRID, index * per_leaf, states, np.frombuffer(ids, np.uint8).reshape(-1, 32))


def write(blocks: Blocks, pages: Pages, tail: int = 0) -> DiskMap:
    """``tail``: bytes the last block is short by."""
    geometry = geometry_of((len(blocks) << GRID) - (tail if blocks else 0), GRID)
    writer = DiskMapWriter(pages.put, geometry)
    for index in range(geometry.leaves):
        writer.add_leaf(leaf_of(blocks, index, manifest_disk.LEAF_BLOCKS))
    return DiskMap(pages.get_page, writer.finish(), geometry)


def read(found: DiskMap) -> Blocks:
    blocks: Blocks = []
    for index in range(found.geometry.leaves):
        leaf = found.leaf(index)
        for place, state in enumerate(leaf.states.tolist()):
            chunk_id = leaf.id_of(leaf.first + place)
            blocks.append(state if chunk_id is None else int.from_bytes(chunk_id, "big"))
    return blocks


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages so small that a test's disk has several levels."""
    for module in (disk_pages, manifest_disk):
        monkeypatch.setattr(module, "LEAF_BLOCKS", 4)
        monkeypatch.setattr(module, "FANOUT", 3)


blocks_of_a_disk = st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4, 5]), min_size=0, max_size=130)


@given(blocks_of_a_disk, st.integers(0, (1 << GRID) - 1))
@settings(deadline=None)
def test_a_map_gives_back_its_blocks(blocks: Blocks, tail: int) -> None:
    pages = Pages()
    found = write(blocks, pages, tail)
    assert read(found) == blocks
    referred = set()
    for page in pages.values():
        below = page_references(page)
        assert all(page_id in pages for page_id in below.pages)
        referred |= {row.tobytes() for row in below.chunks}
    assert referred == {chunk(one) for one in blocks if one > 1}


@given(blocks_of_a_disk.filter(bool), st.data())
@settings(deadline=None)
def test_any_range_is_read_as_runs_that_cover_it(blocks: Blocks, data: st.DataObject) -> None:
    found = write(blocks, Pages(), 77)
    size = found.geometry.size
    offset = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - offset))
    at = offset
    for run in found.runs(offset, length):
        assert run.offset == at
        assert run.length > 0
        for block in range(at >> GRID, (at + run.length - 1 >> GRID) + 1):
            assert run.state == min(blocks[block], 2)
        at += run.length
    assert at == offset + length


@given(blocks_of_a_disk, blocks_of_a_disk)
@settings(deadline=None)
def test_comparing_names_exactly_what_differs(old: Blocks, new: Blocks) -> None:
    pages = Pages()
    before, after = write(old, pages), write(new, pages)
    named: set[int] = set()
    for offset, length in differing_runs(before, after):
        assert length > 0
        assert offset + length <= after.geometry.size
        named |= set(range(offset >> GRID, (offset + length - 1 >> GRID) + 1))
    held = [one if one > 1 else 0 for one in (*old, *[0] * len(new))]
    assert named == {n for n, one in enumerate(new) if (one if one > 1 else 0) != held[n]}


@given(blocks_of_a_disk.filter(bool), st.data())
@settings(deadline=None)
def test_re_used_pages_give_the_map_that_writing_anew_gives(
    blocks: Blocks, data: st.DataObject
) -> None:
    pages = Pages()
    parent = write(blocks, pages)
    changed = list(blocks)
    place = data.draw(st.integers(0, len(blocks) - 1))
    changed[place] = data.draw(st.integers(0, 9))
    writer = DiskMapWriter(pages.put, parent.geometry)
    for index in range(parent.geometry.leaves):
        if index == place // 4:
            writer.add_leaf(leaf_of(changed, index, 4))
        else:
            writer.add_child(parent.child(index))
    again = DiskMap(pages.get_page, writer.finish(), parent.geometry)
    assert read(again) == changed
    assert list(differing_runs(write(changed, pages), again)) == []


def test_equal_regions_are_compared_without_reading_their_leaves() -> None:
    pages = Pages()
    blocks = [2 + n for n in range(400)]
    before = write(blocks, pages)
    blocks[250] = 1
    after = write(blocks, pages)
    pages.reads = 0
    assert list(differing_runs(before, after)) == [(250 << GRID, 1 << GRID)]
    assert pages.reads <= 20 < len(pages) / 6, "the ways to one leaf and to the disk's end"


def test_the_bytes_are_those_of_the_format() -> None:
    """docs/design/vault-format.md, section 8, byte for byte."""
    leaf = b"D" + bytes([1, 12, 0]) + (8).to_bytes(8, "little") + (4).to_bytes(4, "little")
    leaf += bytes([2, 0, 1, 2]) + chunk(7) + chunk(9)
    assert encode_leaf(leaf_of([0] * 8 + [7, 0, 1, 9], 2, 4)) == leaf
    page = b"M" + bytes([1, 3, 0]) + (3).to_bytes(4, "little")
    page += b"\0" + bytes(32) + b"\1" + bytes(32) + b"\2" + chunk(5)
    children = [Child(BlockState(0)), Child(BlockState(1)), Child(BlockState(2), chunk(5))]
    assert encode_map(3, children) == page


# what an agent could send


@given(st.binary(max_size=120), st.sampled_from([b"D", b"M"]))
def test_pages_of_any_bytes_are_read_or_refused(tail: bytes, magic: bytes) -> None:
    for page in (magic + tail, magic + b"\x01" + tail):
        try:
            page_references(page)
        except IntegrityError as error:
            assert error.code == "ManifestDamaged"


def good_leaf() -> bytes:
    return encode_leaf(leaf_of([2, 0, 1, 3], 0, 4))


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"D",
        good_leaf()[:-1],
        good_leaf() + b"\0",
        good_leaf()[:16] + b"\x02\x00\x01\x03" + good_leaf()[20:],
        good_leaf()[:1] + b"\x02" + good_leaf()[2:],
        good_leaf()[:2] + b"\x18" + good_leaf()[3:],
        good_leaf()[:3] + b"\x01" + good_leaf()[4:],
        good_leaf()[:4] + b"\x01" + good_leaf()[5:],
        good_leaf()[:12] + b"\xff\xff\xff\xff" + good_leaf()[16:],
    ],
)
def test_a_leaf_that_is_not_one_is_refused(page: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        decode_leaf(page)
    assert caught.value.code == "ManifestDamaged"


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"M\x01\x01",
        encode_map(1, [Child(BlockState.ZERO)])[:-1],
        encode_map(1, [Child(BlockState.ZERO)]) + b"\0",
        encode_map(1, [Child(BlockState.ZERO, b"x" * 32)]),
        encode_map(1, []),
        encode_map(1, [Child(BlockState.ZERO)] * 4),
        encode_map(0, [Child(BlockState.ZERO)]),
        encode_map(7, [Child(BlockState.ZERO)]),
        encode_map(1, [Child(BlockState.ZERO)]).replace(b"\x01" + bytes(32), b"\x03" + bytes(32)),
    ],
)
def test_a_map_page_that_is_not_one_is_refused(page: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_map(page)


def test_a_page_in_anothers_place_is_refused() -> None:
    pages = Pages()
    found = write([2 + n for n in range(40)], pages)
    leaf = next(page_id for page_id, page in pages.items() if page[:1] == b"D")
    for wrong in (
        DiskMap(lambda _id: pages[leaf], found.child(1).id, found.geometry),
        DiskMap(pages.get_page, leaf, found.geometry),
        DiskMap(pages.get_page, found._root.id, Geometry(found.geometry.size - 9999, GRID)),
        DiskMap(pages.get_page, found._root.id, Geometry(found.geometry.size, GRID + 1)),
    ):
        with pytest.raises(IntegrityError):
            read(wrong)


def test_the_writer_takes_leaves_in_order_and_all_of_them() -> None:
    writer = DiskMapWriter(Pages().put, geometry_of(9 << GRID, GRID))
    with pytest.raises(InternalError):
        writer.add_leaf(leaf_of([2] * 9, 1, 4))
    writer.add_leaf(leaf_of([2] * 9, 0, 4))
    with pytest.raises(InternalError):
        writer.finish()


@pytest.mark.parametrize(("size", "exponent"), [(-1, 20), (1 << 63, 20), (1, 24), (1, 3)])
def test_sizes_and_grids_out_of_range_are_refused(size: int, exponent: int) -> None:
    with pytest.raises(UsageError):
        geometry_of(size, exponent)
    stream = Stream(
        name="disk",
        kind="disk-map",
        page_root=bytes(32),
        logical_bytes=0,
        parameters={"size": size, "grid_exponent": exponent},
    )
    with pytest.raises(IntegrityError):
        open_disk_map(stream, Pages().get_page)


def test_a_stream_that_is_no_disk_is_refused() -> None:
    good = disk_stream("disk-0", b"r" * 32, Geometry(5000, GRID), Tally(904, 1), sector_bytes=512)
    assert open_disk_map(good, Pages().get_page).geometry == Geometry(5000, GRID)
    for kind, parameters in (("file-tree", good.parameters), ("disk-map", {"size": "big"})):
        wrong = Stream(
            name="x", kind=kind, page_root=b"r" * 32, logical_bytes=0, parameters=parameters
        )
        with pytest.raises(IntegrityError):
            open_disk_map(wrong, Pages().get_page)
