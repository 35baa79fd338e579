"""Builds a golden vault: run once per released format, its result is committed and never changed.

    python tests/golden/build.py tests/golden/v1

It writes ``vault/`` (the store's folder of one vault), ``vault.key`` with ``passphrase`` (the
exported key, made before the last epoch) and ``inventory.json.gz`` (what each point holds).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec

from holdfast.adapters.object_store.local import LocalStore
from holdfast.testing.little_agent import A_DAY, BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import keys, rings
from holdfast.vaultstore.entries import Entry, EntryType, SegmentEncoder, splits_before
from holdfast.vaultstore.export import export_key
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.ids import ChunkKind, content_hasher
from holdfast.vaultstore.layout import vault_prefix
from holdfast.vaultstore.manifest_files import ManifestBuilder
from holdfast.vaultstore.pack import PackClass
from holdfast.vaultstore.root import Finding, Root, Stream, encode_root
from holdfast.vaultstore.values import PointFacts, RecoveryPointRecord, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

PASSPHRASE = "golden passphrase"
PLATFORM_KEY = b"golden platform key".ljust(32, b".")
IDS = VaultIds(
    vault_id=bytes.fromhex("601de700000040008000000000000001"),
    domain_id=bytes.fromhex("601de700000040008000000000000002"),
    tenant_id=bytes.fromhex("601de700000040008000000000000003"),
    subscription_id=bytes.fromhex("601de700000040008000000000000004"),
)
OPTIONS = VaultOptions(pack_target_bytes=96 * 1024, reserve_bytes=0, probe=False)
MTIME_NS = 1_700_000_000_123_456_789


@dataclass
class Node:
    """A file of the tree. ``pieces``: (offset, content); the rest is holes."""

    type: EntryType = EntryType.FILE
    mode: int = 0o644
    mtime_ns: int = MTIME_NS
    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    size: int = 0
    target: bytes = b""
    group: int = 0
    rdev: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    uid: int = 1000
    gid: int = 1001

    def content(self) -> bytes:
        whole = bytearray(self.size)
        for at, data in self.pieces:
            whole[at : at + len(data)] = data
        return bytes(whole)


def file(data: bytes, **fields: object) -> Node:
    return Node(pieces=[(0, data)] if data else [], size=len(data), **fields)  # type: ignore[arg-type]


def folder(mode: int = 0o755, mtime_ns: int = MTIME_NS) -> Node:
    return Node(EntryType.DIRECTORY, mode, mtime_ns)


Tree = dict[bytes, Node]


def first_tree() -> Tree:
    rng = SeededRandom(2026)
    shared = b"one file, two names\n" * 40
    tree: Tree = {
        b"srv": folder(),
        b"srv/data": folder(mtime_ns=MTIME_NS + 5),
        b"srv/data/empty": file(b""),
        b"srv/data/hello.txt": file(b"hello\n", mode=0o600),
        b"srv/data/script": file(b"#!/bin/sh\n", mode=0o4755, uid=0, gid=0),
        b"srv/data/noise": file(rng.token(20_000)),
        b"srv/data/text": file(b"".join(b"line %d\n" % n for n in range(40_000))),
        b"srv/data/hard-one": file(shared, group=77),
        b"srv/data/hard-two": file(shared, group=77),
        b"srv/data/link": Node(EntryType.SYMLINK, 0o777, target=b"hello.txt"),
        b"srv/data/broken": Node(EntryType.SYMLINK, 0o777, target=b"/no/such \xff place"),
        b"srv/data/pipe": Node(EntryType.FIFO, 0o640),
        b"srv/data/tagged": file(
            b"tagged", xattrs={b"user.colour": b"green", b"user.bin": b"\0\xff"}
        ),
        b"srv/data/\xff\xfe not utf-8": file(b"bytes"),
        b"srv/data/new\nline": file(b"newline"),
        b"srv/data/" + b"n" * 255: file(b"a long name"),
        b"srv/data/holes": Node(
            pieces=[(0, b"start"), (3_000_000, b"middle")], size=5_000_000, mtime_ns=1
        ),
        b"srv/data/only-hole": Node(size=70_000),
        b"srv/data/scattered": Node(
            pieces=[(300 * n, b"%06d" % (n % 50)) for n in range(2_500)], size=300 * 2_500
        ),
        b"srv/data/before-1970": file(b"old", mtime_ns=-86_400_000_000_001),
        b"srv/many": folder(mode=0o700),
        b"srv/empty-folder": folder(mode=0o750, mtime_ns=7),
        b"srv/a": folder(),
        b"srv/a-b": folder(),
        b"srv/a/x": file(b"sorted before a-b"),
        b"srv/a-b/x": file(b"sorted after a/"),
    }
    tree |= {b"srv/many/member-%04d" % n: file(b"member %d" % n) for n in range(900)}
    deep = b"srv/deep"
    for level in range(12):
        tree[deep] = folder()
        deep += b"/level-%02d" % level
    tree[deep] = file(b"the bottom")
    return tree


def second_tree() -> Tree:
    tree = first_tree()
    del tree[b"srv/data/noise"]
    tree[b"srv/data/hello.txt"] = file(b"hello again\n", mode=0o640, mtime_ns=MTIME_NS + 9)
    tree[b"srv/data/text"] = file(b"".join(b"line %d\n" % n for n in range(100, 40_100)))
    tree[b"srv/many/member-0450-new"] = file(b"added in the middle")
    return tree


def third_tree() -> Tree:
    tree = second_tree()
    tree[b"srv/data/noise"] = file(SeededRandom(3).token(10_000))
    tree[b"srv/data/hard-two"] = file(b"no longer the same file")
    return tree


def other_tree() -> Tree:
    return {
        b"etc": folder(),
        b"etc/hosts": file(b"127.0.0.1 localhost\n", uid=0, gid=0),
        b"etc/null": Node(EntryType.CHARACTER_DEVICE, 0o666, rdev=os.makedev(1, 3)),
        b"etc/disk": Node(EntryType.BLOCK_DEVICE, 0o660, rdev=os.makedev(259, 70_000)),
    }


class GoldenRun(BackupRun):
    """Sends a tree with everything the format can say: bundles, holes, links, devices."""

    def send_tree(self, tree: Tree) -> bytes:
        manifest = ManifestBuilder(self._put_page)
        bundle = self._bundle(tree)
        for path in self._folders(tree):
            names = sorted(name for name in tree if name.rpartition(b"/")[0] == path)
            run: list[Entry] = []
            for full in names:
                entry = self._golden_entry(full, tree[full], bundle)
                if run and splits_before(entry.name, len(run)):
                    self._add(manifest, path, run)
                    run = []
                run.append(entry)
            if run:
                self._add(manifest, path, run)
        top = manifest.finish()
        root = Root(
            streams=(
                Stream(
                    name="files",
                    kind="file-tree",
                    page_root=top.id,
                    logical_bytes=top.logical_bytes,
                    entries=top.entries,
                ),
            ),
            host="golden",
            platform="linux",
            include_paths=(b"srv", b"etc"),
            findings=(Finding(code="SocketSkipped", path=b"srv/data/socket", message="skipped"),),
            findings_count=1,
            owners={0: "root", 1000: "someone"},
            groups={0: "root", 1001: "some"},
        )
        root_id = self._put(PackClass.PAGES, ChunkKind.ROOT, encode_root(root))
        self.flush()
        return root_id

    @staticmethod
    def _folders(tree: Tree) -> Iterator[bytes]:
        paths = {path.rpartition(b"/")[0] for path in tree}
        return iter(sorted(paths, key=lambda path: path.replace(b"/", b"\0")))

    def _add(self, manifest: ManifestBuilder, path: bytes, run: list[Entry]) -> None:
        encoder = SegmentEncoder(path, self._put_page)
        for entry in run:
            encoder.add(entry)
        manifest.add_segment(encoder.finish(), run[0].name)

    def _bundle(self, tree: Tree) -> dict[bytes, tuple[bytes, int]]:
        """Where the small files without holes lie: (bundle id, offset)."""
        small = [
            path
            for path, node in sorted(tree.items())
            if len(node.pieces) == 1 and node.size < 1000 and not node.pieces[0][0]
        ]
        if not small:
            return {}
        data = b"".join(tree[path].content() for path in small)
        bundle_id = self._put(PackClass.FILES, ChunkKind.BUNDLE, data)
        places, at = {}, 0
        for path in small:
            places[path] = (bundle_id, at)
            at += tree[path].size
        return places

    def _golden_entry(
        self, path: bytes, node: Node, bundle: dict[bytes, tuple[bytes, int]]
    ) -> Entry:
        entry = Entry(
            path.rpartition(b"/")[2], int(node.type), node.mode, node.uid, node.gid, node.mtime_ns
        )
        entry.link_target, entry.link_group = node.target, node.group
        entry.xattrs, entry.rdev = node.xattrs, node.rdev
        if node.type != EntryType.FILE:
            return entry
        hasher = content_hasher(self.grant.id_keys)
        for _, data in node.pieces:
            hasher.update(data)
        entry.size, entry.digest = node.size, hasher.digest()
        if path in bundle:
            entry.extents = [(*bundle[path], 0, node.size)]
        else:
            entry.extents = [
                (self._put(PackClass.FILES, ChunkKind.DATA, data[start : start + 90_000]), 0,
                 at + start, min(90_000, len(data) - start))
                for at, data in node.pieces
                for start in range(0, len(data), 90_000)
            ]  # fmt: skip
        return entry


def inventory(tree: Tree) -> list[dict[str, object]]:
    rows = []
    for path, node in sorted(tree.items()):
        row: dict[str, object] = {
            "path": os.fsdecode(path),
            "type": node.type.name,
            "mode": node.mode,
            "mtime_ns": node.mtime_ns,
            "uid": node.uid,
            "gid": node.gid,
        }
        if node.type == EntryType.FILE:
            row |= {"size": node.size, "sha256": hashlib.sha256(node.content()).hexdigest()}
        optional = {
            "target": os.fsdecode(node.target),
            "group": node.group,
            "rdev": node.rdev,
            "xattrs": {name.decode(): value.hex() for name, value in node.xattrs.items()},
        }
        rows.append(row | {name: value for name, value in optional.items() if value})
    return rows


class Builder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = LocalStore(folder / "store")
        self.clock = MovableClock(A_DAY)
        self.rng = SeededRandom(20260301)
        self.points: dict[str, list[dict[str, object]]] = {}
        self.vault = Vault.create(
            self.store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=self.clock, rng=self.rng
        )

    def back_up(self, item: str, container: str, tree: Tree) -> RecoveryPointRecord:
        self.clock.pass_time(timedelta(days=1))
        agent = LittleAgent(self.vault, self.rng, container, item)
        grant: SessionGrant = self.vault.begin_session(
            "backup", container, agent.item_key, self.rng.token(16)
        )
        run = GoldenRun(agent, grant)
        root_id = run.send_tree(tree)
        record = run.commit(root_id, PointFacts(time=self.clock.now(), tags=("daily",)))
        self.vault.close_session(grant.session_id)
        self.points[record.rp_id] = inventory(tree)
        return record

    def rotate_epoch(self) -> None:
        core = self.vault._core
        service = msgspec.structs.replace(core.rings.service, number=core.rings.service.number + 1)
        core.rings = rings.Rings(
            service, keys.rotate_epoch(core.rings.domain, self.rng), core.rings.recovery
        )
        rings.store_rings(core.objects, core.vault_id, core.rings, PLATFORM_KEY, self.rng)

    def drop(self, rp_id: str) -> None:
        self.clock.pass_time(timedelta(days=1))
        self.vault.expire(self.vault.plan_expire({rp_id: "golden"}))
        del self.points[rp_id]
        for _ in range(2):
            self.vault.collect()

    def run(self) -> None:
        self.back_up("docs", "Linux;web1", first_tree())
        key_file = export_key(self.vault._core, PLATFORM_KEY, PASSPHRASE, scrypt_n=2**14)
        self.back_up("docs", "Linux;web1", second_tree())
        self.back_up("system", "Linux;db1", other_tree())
        dropped = self.back_up("docs", "Linux;web1", {b"gone": file(self.rng.token(30_000))})
        self.rotate_epoch()
        self.back_up("docs", "Linux;web1", third_tree())
        self.drop(dropped.rp_id)
        (self.folder / "vault.key").write_bytes(key_file)
        (self.folder / "passphrase").write_text(PASSPHRASE + "\n")
        rows = json.dumps(self.points, sort_keys=True).encode()
        (self.folder / "inventory.json.gz").write_bytes(gzip.compress(rows, mtime=0))
        (self.folder / "store" / vault_prefix(IDS.vault_id)).rename(self.folder / "vault")


if __name__ == "__main__":
    Builder(Path(sys.argv[1])).run()
