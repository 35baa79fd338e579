"""Pages and segments from elsewhere: reuse changes nothing, damage raises nothing unforeseen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import IntegrityError, InternalError, UsageError
from holdfast.vaultstore import manifest_pages
from holdfast.vaultstore.entries import (
    MAX_INLINE_EXTENTS,
    Entry,
    EntryType,
    SegmentEncoder,
    decode_extent_page,
    decode_segment,
    encode_extent_page,
    segment_head,
)
from holdfast.vaultstore.manifest_files import FileTree, ManifestBuilder, page_references
from holdfast.vaultstore.manifest_pages import Child, children_of, encode_inner, split_leaf


class Pages(dict[bytes, bytes]):
    """A page store by content hash; ``reads`` counts single and batched reads."""

    singles = batches = 0

    def put(self, page: bytes) -> bytes:
        name = blake2b(page, digest_size=32).digest()
        self[name] = page
        return name

    def one(self, page_id: bytes) -> bytes:
        self.singles += 1
        return self[page_id]

    def many(self, page_ids: Sequence[bytes]) -> list[bytes]:
        self.batches += 1
        return [self[page_id] for page_id in page_ids]


def entry(name: bytes, size: int = 5, **fields: object) -> Entry:
    chunk = (name * 32)[:32]
    return Entry(name, EntryType.FILE, 0o644, 1, 2, 3, size, chunk, [(chunk, 0, 0, size)], **fields)  # type: ignore[arg-type]


def segment(path: bytes, names: Sequence[bytes], pages: Pages) -> bytes:
    encoder = SegmentEncoder(path, pages.put)
    for name in names:
        encoder.add(entry(name))
    return encoder.finish()


def folders(count: int, files: int = 40) -> Iterator[tuple[bytes, list[bytes]]]:
    for number in range(count):
        yield b"d%05d" % number, [b"file-%03d" % file for file in range(files)]


def test_kept_segments_give_the_same_tree_as_encoding_anew() -> None:
    pages = Pages()
    cache: dict[bytes, bytes] = {}
    roots = []
    for _ in range(2):
        builder = ManifestBuilder(pages.put)
        for path, names in folders(300):
            if path not in cache:
                cache[path] = segment(path, names, pages)
            builder.add_segment(cache[path], names[0])
        roots.append(builder.finish())
        cache = dict(list(cache.items())[::2])
    assert roots[0] == roots[1]
    assert roots[0].entries == 300 * 40


@pytest.mark.parametrize("change", ["add", "remove", "grow"])
@pytest.mark.parametrize("where", [0, 1499, 2999])
def test_a_changed_folder_changes_few_pages(change: str, where: int) -> None:
    pages = Pages()

    def build(tree: dict[bytes, list[bytes]]) -> None:
        builder = ManifestBuilder(pages.put)
        for path, names in sorted(tree.items()):
            builder.add_segment(segment(path, names, pages), names[0])
        builder.finish()

    tree = dict(folders(3000, 8))
    build(tree)
    before = set(pages)
    path = b"d%05d" % where
    if change == "remove":
        del tree[path]
    elif change == "add":
        tree[path + b"-new"] = [b"one"]
    else:
        tree[path] = sorted([*tree[path], b"zz"])
    build(tree)
    assert len(before) > 20
    assert len(set(pages) - before) <= 5


def test_walking_reads_pages_in_batches_and_not_beyond_its_folder() -> None:
    pages = Pages()
    builder = ManifestBuilder(pages.put)
    for path, names in folders(3000):
        builder.add_segment(segment(path, names, pages), names[0])
    top = builder.finish()
    tree = FileTree(pages.one, top.id, pages.many)
    assert tree.statistics() == (3000 * 40, 3000 * 40 * 5)
    assert sum(len(run) for _, run in tree.walk()) == 3000 * 40
    assert pages.batches < len(pages) / 10
    pages.singles = pages.batches = 0
    assert [path for path, _ in tree.walk(b"d01500")] == [b"d01500"]
    assert pages.singles + pages.batches <= 5


def test_a_file_of_many_extents_comes_back_from_extent_pages() -> None:
    pages = Pages()
    count = 5 * MAX_INLINE_EXTENTS
    extents = [(b"%032d" % (n % 100), n, 1000 * n, 900) for n in range(count)]
    big = Entry(b"big", EntryType.FILE, 0, 0, 0, 0, 1000 * count, b"d" * 32, extents)
    encoder = SegmentEncoder(b"", pages.put)
    for one in (big, entry(b"small")):
        encoder.add(one)
    data = encoder.finish()
    assert len(data) < 1000
    found = list(decode_segment(data, pages.one))
    assert [tuple(row) for row in found[0].extents] == extents
    assert found[1].name == b"small"
    builder = ManifestBuilder(pages.put)
    builder.add_segment(data, b"big")
    references = page_references(pages[builder.finish().id])
    assert len(references.pages) == 2
    below = {bytes(row) for page in references.pages for row in page_references(pages[page]).chunks}
    assert below == {row[0] for row in extents}
    with pytest.raises(IntegrityError):
        list(decode_segment(data))


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 1025])
def test_names_that_are_none_are_neither_written_nor_read(name: bytes) -> None:
    encoder = SegmentEncoder(b"p", bytes)
    with pytest.raises(UsageError):
        encoder.add(entry(name))
    if len(name) not in (1, 2, 3):
        return
    good = SegmentEncoder(b"p", bytes)
    good.add(Entry(b"z" * len(name), EntryType.FIFO, 0o600, 0, 0, 0))
    forged = good.finish().replace(b"z" * len(name), name, 1)
    with pytest.raises(IntegrityError):
        list(decode_segment(forged))


def test_long_names_and_deep_paths_fit() -> None:
    path = b"/".join([b"d" * 255] * 400)
    encoder = SegmentEncoder(path, bytes)
    encoder.add(entry(b"\xff\n" * 127 + b"\xfe"))
    data = encoder.finish()
    assert segment_head(data).path == path
    assert [found.name for found in decode_segment(data)] == [b"\xff\n" * 127 + b"\xfe"]


def test_segments_out_of_order_are_a_defect() -> None:
    pages = Pages()
    for second in (b"a", b"b"):
        builder = ManifestBuilder(pages.put)
        builder.add_segment(segment(b"b", [b"n"], pages), b"n")
        with pytest.raises(InternalError):
            builder.add_segment(segment(second, [b"n"], pages), b"n")


def test_an_empty_tree_is_a_tree() -> None:
    pages = Pages()
    tree = FileTree(pages.one, ManifestBuilder(pages.put).finish().id)
    assert (list(tree.walk()), tree.list_directory(b""), tree.lookup(b"x")) == ([], [], None)
    assert tree.statistics() == (0, 0)


def sample() -> tuple[Pages, Child]:
    pages = Pages()
    builder = ManifestBuilder(pages.put)
    for path, names in folders(250, 30):
        builder.add_segment(segment(path, names, pages), names[0])
    return pages, builder.finish()


SAMPLE, TOP = sample()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_pages_raise_integrity_errors_only(data: st.DataObject) -> None:
    page = bytearray(SAMPLE[data.draw(st.sampled_from(sorted(SAMPLE)))])
    if data.draw(st.booleans()):
        del page[data.draw(st.integers(0, len(page) - 1)) :]
    for _ in range(data.draw(st.integers(1, 3))):
        if page:
            place = data.draw(st.integers(0, min(len(page) - 1, 400)))
            page[place] = data.draw(st.integers(0, 255))
    try:
        page_references(page)
        children = children_of(page)
        for part in split_leaf(page) if children is None else []:
            list(decode_segment(part, SAMPLE.one))
    except IntegrityError:
        pass


@given(st.binary(max_size=200), st.sampled_from([b"L", b"I", b"X", b""]))
def test_noise_raises_integrity_errors_only(noise: bytes, magic: bytes) -> None:
    for read in (page_references, children_of, split_leaf, decode_extent_page, segment_head):
        try:
            read(magic + noise)
        except IntegrityError:
            continue


def test_an_inner_page_out_of_its_level_is_refused() -> None:
    """A chain of inner pages cannot be made deep enough to exhaust a reader."""
    pages = Pages()
    child = Child(b"k", pages.put(encode_inner(1, [Child(b"k", b"x" * 32, 1, 1)])), 1, 1)
    for level in (1, 3, manifest_pages.MAX_LEVELS + 1):
        top = pages.put(encode_inner(level, [child]))
        with pytest.raises(IntegrityError):
            list(FileTree(pages.one, top).walk())


def test_extent_pages_come_back() -> None:
    rows = [(b"%032d" % n, n, n, n) for n in range(7)]
    assert decode_extent_page(encode_extent_page(rows)) == rows
    with pytest.raises(IntegrityError):
        decode_extent_page(encode_extent_page(rows)[:-1])
