"""Hostile manifests and hostile targets: a restore never writes outside its target."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from holdfast.errors import HoldfastError
from holdfast.ports.object_store import Buffer
from holdfast.testing.files_vault import FilesVault
from holdfast.testing.nasty_tree import remove_tree
from holdfast.vaultstore.entries import Entry, EntryType, SegmentEncoder
from holdfast.vaultstore.ids import ChunkKind, chunk_name, derive_id_keys
from holdfast.vaultstore.manifest_files import ManifestBuilder, tree_key
from holdfast.vaultstore.root import Root, Stream, encode_root
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.files.compare import take_inventory
from holdfast.workloads.files.restore import FilesRestore, RestorePlan
from holdfast.workloads.files.standalone import named

KEYS = derive_id_keys(b"k" * 32)
Tree = dict[bytes, list[Entry]]


class MemorySource:
    """A recovery point in memory, its pages whatever the test wants."""

    def __init__(self, tree: Tree, chunks: Iterable[bytes] = ()) -> None:
        self.keys = KEYS
        self.chunks: dict[bytes, bytes] = {}
        for data in chunks:
            self.put(ChunkKind.DATA, data)
        builder = ManifestBuilder(lambda page: self.put(ChunkKind.FILE_PAGE, page))
        for path in sorted(tree, key=lambda one: tree_key(one, b"")):
            encoder = SegmentEncoder(path, lambda page: self.put(ChunkKind.FILE_PAGE, page))
            for entry in sorted(tree[path], key=lambda one: one.name):
                encoder.add(entry)
            builder.add_segment(encoder.finish(), min(one.name for one in tree[path]))
        page = builder.finish().id
        stream = Stream(name="files", kind="file-tree", page_root=page, logical_bytes=0)
        self.root_id = self.put(ChunkKind.ROOT, encode_root(Root(streams=(stream,))))

    def put(self, kind: ChunkKind, data: bytes) -> bytes:
        name = chunk_name(KEYS, kind, data)[:32]
        self.chunks[name] = bytes(data)
        return name

    def locate(self, ids: Iterable[bytes]) -> list[FrameLocation]:
        return list(map(named, ids))

    def runs(self, rows: Iterable[FrameLocation]) -> Iterator[list[FrameLocation]]:
        for row in rows:
            yield [row]

    def read_run(
        self, run: list[FrameLocation], take: Callable[[FrameLocation, Buffer], None]
    ) -> None:
        for row in run:
            take(row, self.chunks[row.id])

    def page(self, page_id: bytes) -> Buffer:
        return self.chunks[page_id]

    def sealed(self, run: list[FrameLocation]) -> None:
        """Everything here is plain."""

    def pages(self, page_ids: Sequence[bytes]) -> list[Buffer]:
        return [self.chunks[page_id] for page_id in page_ids]


def regular(name: bytes, data: bytes = b"evil", **more: object) -> Entry:
    chunk = chunk_name(KEYS, ChunkKind.DATA, data)[:32]
    entry = Entry(name, EntryType.FILE, 0o644, os.geteuid(), os.getegid(), 10**18, len(data))
    entry.extents, entry.digest = ((chunk, 0, 0, len(data)),), chunk
    for key, value in more.items():
        setattr(entry, key, value)
    return entry


def folder(name: bytes) -> Entry:
    return Entry(name, EntryType.DIRECTORY, 0o755, os.geteuid(), os.getegid(), 10**18)


def link(name: bytes, target: bytes) -> Entry:
    entry = Entry(name, EntryType.SYMLINK, 0o777, os.geteuid(), os.getegid(), 10**18)
    entry.link_target = target
    return entry


def restore(source: MemorySource, target: Path) -> FilesRestore:
    run = FilesRestore(RestorePlan(target=target), source)
    run.run()
    return run


def snapshot(place: Path) -> dict[bytes, object]:
    return dict(take_inventory([place]).entries)


@pytest.mark.parametrize(
    "path",
    [b"../outside", b"a/../../outside", b"/outside", b"a//b", b"./a", b"a/.", b"a/\0b", b".."],
)
def test_a_manifest_cannot_name_a_folder_outside(tmp_path: Path, path: bytes) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()
    before = snapshot(outside)
    source = MemorySource({b"": [folder(b"a")], path: [regular(b"evil")]}, [b"evil"])
    run = restore(source, target)
    assert snapshot(outside) == before
    assert {one.code for one in run.findings.all()} <= {"TargetBlocked"}
    found = [one for one in take_inventory([tmp_path]).entries if one.endswith(b"/evil")]
    assert found == []


def test_a_link_of_the_manifest_is_not_walked_through(tmp_path: Path) -> None:
    """First a link "way" to outside, then a file "way/evil"."""
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()
    tree = {b"": [link(b"way", os.fsencode(outside))], b"way": [regular(b"evil")]}
    run = restore(MemorySource(tree, [b"evil"]), target)
    assert list(outside.iterdir()) == []
    assert [one.code for one in run.findings.all()] == ["TargetBlocked"]


def test_links_standing_in_the_way_are_not_followed(tmp_path: Path) -> None:
    source, target, outside = tmp_path / "source", tmp_path / "target", tmp_path / "outside"
    (source / "dir" / "sub").mkdir(parents=True)
    (source / "dir" / "file").write_bytes(b"from the backup")
    (source / "dir" / "sub" / "deeper").write_bytes(b"from the backup")
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source)
    for conflict in ("skip", "keep-both", "overwrite"):
        place = target / conflict
        there = place / str(source).lstrip("/")
        there.mkdir(parents=True)
        outside.mkdir(exist_ok=True)
        (outside / "file").write_bytes(b"precious")
        (there / "dir").symlink_to(outside)
        before = snapshot(outside)
        _, run = vault.restore(RestorePlan(target=place, conflict=conflict))
        assert snapshot(outside) == before
        blocked = [one.code for one in run.findings.all()]
        assert blocked == ([] if conflict == "overwrite" else ["TargetBlocked"] * 3)
        assert (there / "dir").is_symlink() == (conflict != "overwrite")


def test_an_existing_link_under_a_files_name_is_replaced_not_written_through(
    tmp_path: Path,
) -> None:
    target, precious = tmp_path / "target", tmp_path / "precious"
    precious.write_bytes(b"precious")
    target.mkdir()
    (target / "file").symlink_to(precious)
    restore(MemorySource({b"": [regular(b"file")]}, [b"evil"]), target)
    assert precious.read_bytes() == b"precious"
    assert not (target / "file").is_symlink()
    assert (target / "file").read_bytes() == b"evil"


def test_a_file_with_a_forged_digest_does_not_appear(tmp_path: Path) -> None:
    entries = [regular(b"forged", digest=b"x" * 32), regular(b"good")]
    run = restore(MemorySource({b"": entries}, [b"evil"]), tmp_path / "target")
    assert [(one.code, one.path) for one in run.findings.all()] == [("ContentDamaged", b"forged")]
    assert os.listdir(tmp_path / "target") == ["good"]


def test_extents_beyond_a_chunk_or_a_file_are_refused(tmp_path: Path) -> None:
    chunk = chunk_name(KEYS, ChunkKind.DATA, b"evil")[:32]
    entries = [
        regular(b"beyond-chunk", extents=((chunk, 2, 0, 4),)),
        regular(b"beyond-file", extents=((chunk, 0, 1 << 40, 4),), size=4),
        regular(b"overlapping", extents=((chunk, 0, 0, 4), (chunk, 0, 2, 4)), size=6),
        regular(b"no-digest", digest=b""),
    ]
    run = restore(MemorySource({b"": entries}, [b"evil"]), tmp_path / "target")
    assert {one.code for one in run.findings.all()} == {"ContentDamaged"}
    assert run.findings.count == 3
    assert os.listdir(tmp_path / "target") == ["no-digest"]


def test_a_thousand_nested_folders_are_no_trouble(tmp_path: Path) -> None:
    tree: Tree = {}
    for depth in range(1200):
        tree[b"/".join([b"d"] * depth)] = [folder(b"d")]
    tree[b"/".join([b"d"] * 1200)] = [regular(b"bottom")]
    run = restore(MemorySource(tree, [b"evil"]), tmp_path / "target")
    assert run.findings.all() == ()
    assert run.progress.directories == 1200
    found = take_inventory([tmp_path / "target"]).entries
    remove_tree(tmp_path / "target")
    assert sum(path.endswith(b"/bottom") for path in found) == 1


def test_a_target_swapped_for_links_all_the_while_never_leaks(tmp_path: Path) -> None:
    """Somebody who may write in the target exchanges folders for links while it runs."""
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()
    names = [b"d%02d" % number for number in range(40)]
    tree: Tree = {b"": [folder(name) for name in names]}
    for name in names:
        tree[name] = [regular(b"f%d" % number) for number in range(20)]
    source = MemorySource(tree, [b"evil"])
    target.mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in names:
                try:
                    here = target / os.fsdecode(name)
                    here.rename(target / f"moved-{here.name}")
                    here.symlink_to(outside)
                except OSError:
                    continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        FilesRestore(RestorePlan(target=target), source).run()
    except HoldfastError:
        pass
    finally:
        stop.set()
        thread.join()
    assert list(outside.iterdir()) == []
