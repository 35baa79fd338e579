"""The manifest against a dict: what goes in comes out, and a small change shares most pages."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.vaultstore.entries import (
    Entry,
    EntryType,
    SegmentEncoder,
    decode_segment,
    is_name,
    splits_before,
)
from holdfast.vaultstore.manifest_files import FileTree, ManifestBuilder, page_references

NAME = st.binary(min_size=1, max_size=40).filter(is_name)
CHUNK = st.binary(min_size=32, max_size=32)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    size = draw(st.integers(0, 2**40))
    entry = Entry(
        name=draw(NAME),
        type=draw(st.sampled_from(list(EntryType))),
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, 2**32 - 1)),
        gid=draw(st.integers(0, 2**32 - 1)),
        mtime_ns=draw(st.integers(-(2**63), 2**63 - 1)),
        size=size,
        link_target=draw(st.binary(max_size=30)),
        link_group=draw(st.integers(0, 2**64 - 1)),
        rdev=draw(st.integers(0, 2**40)),
        xattrs=draw(st.dictionaries(NAME, st.binary(max_size=50), max_size=3)),
    )
    if draw(st.booleans()):
        entry.digest = draw(CHUNK)
        small = st.integers(0, 2**31)
        entry.extents = draw(st.lists(st.tuples(CHUNK, small, small, small), max_size=4))
    return entry


@given(st.binary(max_size=60).filter(lambda path: b"\0" not in path), st.lists(entries()))
@settings(max_examples=60)
def test_a_segment_comes_back_as_it_was(path: bytes, written: list[Entry]) -> None:
    encoder = SegmentEncoder(path, lambda page: page[:32])
    for entry in written:
        encoder.add(entry)
    read = list(decode_segment(encoder.finish()))
    for entry in [*written, *read]:
        entry.extents = tuple(entry.extents)
    assert read == written


class Pages(dict[bytes, bytes]):
    """A page store by content hash."""

    def put(self, page: bytes) -> bytes:
        name = blake2b(page, digest_size=32).digest()
        self[name] = page
        return name


Tree = dict[bytes, dict[bytes, int]]


def build(tree: Tree, pages: Pages) -> bytes:
    builder = ManifestBuilder(pages.put)
    for path in sorted(tree, key=lambda path: path.replace(b"/", b"\0")):
        run: list[Entry] = []
        for name in sorted(tree[path]):
            if run and splits_before(name, len(run)):
                flush(builder, path, run, pages)
                run = []
            size = tree[path][name]
            chunk = (name * 32)[:32]
            run.append(
                Entry(name, EntryType.FILE, 0o644, 1, 1, 7, size, b"", [(chunk, 0, 0, size)])
            )
        if run:
            flush(builder, path, run, pages)
    return builder.finish().id


def flush(builder: ManifestBuilder, path: bytes, run: Iterable[Entry], pages: Pages) -> None:
    encoder = SegmentEncoder(path, pages.put)
    first = b""
    for entry in run:
        first = first or entry.name
        encoder.add(entry)
    builder.add_segment(encoder.finish(), first)


PATH = st.lists(NAME, max_size=3).map(b"/".join)


@given(st.dictionaries(PATH, st.dictionaries(NAME, st.integers(1, 9), min_size=1), max_size=12))
@settings(max_examples=60)
def test_listing_lookup_and_walk_equal_the_model(tree: Tree) -> None:
    pages = Pages()
    read = FileTree(pages.__getitem__, build(tree, pages))
    for path, names in tree.items():
        assert [entry.name for entry in read.list_directory(path)] == sorted(names)
        for name, size in names.items():
            entry = read.lookup(path + b"/" + name if path else name)
            assert entry is not None
            assert entry.size == size
    walked: dict[bytes, set[bytes]] = {}
    for path, run in read.walk():
        walked.setdefault(path, set()).update(entry.name for entry in run)
    assert walked == {path: set(names) for path, names in tree.items()}


def large_tree() -> Tree:
    tree: Tree = {
        b"top/dir%03d" % folder: {b"file%04d" % number: 5 for number in range(60)}
        for folder in range(200)
    }
    tree[b"flat"] = {b"member-%06d" % number: 3 for number in range(20_000)}
    return tree


def test_one_added_file_shares_nearly_all_pages() -> None:
    tree, pages = large_tree(), Pages()
    build(tree, pages)
    before = set(pages)
    assert len(before) > 30
    for folder, name in ((b"top/dir100", b"added"), (b"flat", b"member-010000-added")):
        tree[folder][name] = 9
        build(tree, pages)
        assert len(set(pages) - before) <= 5
        before = set(pages)


def test_a_page_of_a_folder_starts_where_asked() -> None:
    tree, pages = large_tree(), Pages()
    reads: list[bytes] = []

    def fetch(page_id: bytes) -> bytes:
        reads.append(page_id)
        return pages[page_id]

    read = FileTree(fetch, build(tree, pages))
    reads.clear()
    found = read.list_directory(b"flat", after=b"member-015000", limit=10)
    assert [entry.name for entry in found] == [b"member-%06d" % n for n in range(15001, 15011)]
    assert len(reads) <= 5


def test_references_of_all_pages_name_every_chunk() -> None:
    tree, pages = large_tree(), Pages()
    todo, chunks, entries_seen = [build(tree, pages)], set(), 0
    while todo:
        found = page_references(pages[todo.pop()])
        todo += found.pages
        chunks |= {bytes(row) for row in found.chunks}
        entries_seen += found.entries
    assert entries_seen == sum(map(len, tree.values()))
    assert chunks == {(name * 32)[:32] for names in tree.values() for name in names}
