"""Restores that are killed, run out of space, meet damage, or run without privilege."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from holdfast.errors import CancelledError, HoldfastError, TargetError
from holdfast.testing.files_vault import FilesVault
from holdfast.testing.nasty_tree import build_nasty_tree, remove_tree
from holdfast.testing.small_disk import can_mount, small_disk
from holdfast.vaultstore.layout import PACKS
from holdfast.workloads.files import restore_plan, restore_sync
from holdfast.workloads.files.compare import compare_inventories, take_inventory
from holdfast.workloads.files.journal import RestoreJournal
from holdfast.workloads.files.restore import RestorePlan
from holdfast.workloads.files.restore_sync import Syncer

ROOT = os.geteuid() == 0
PROGRAM = """
import ctypes, json, os, sys
from pathlib import Path
from holdfast import crashpoint
from holdfast.testing.files_vault import FilesVault
from holdfast.workloads.files import restore_plan, restore_sync
from holdfast.workloads.files.restore import FilesRestore, RestorePlan
from holdfast.workloads.files.restore_fetch import ChunkFetcher

wish = json.loads(sys.argv[1])
crashpoint.arm(os.environ)
if "uid" in wish:
    os.setgroups([])
    os.setgid(wish["uid"])
    os.setuid(wish["uid"])
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as after exec: /proc/self is our own
restore_plan.WINDOW_ENTRIES, restore_plan.WINDOW_BYTES = 40, 2_000_000
restore_sync.SYNC_SECONDS = wish.get("sync", 0.02)
vault = FilesVault(Path(wish["vault"]))
session = vault.restore_session()
plan = RestorePlan(target=Path(wish["target"]), conflict=wish["conflict"], suffix=".restored-1")
run = FilesRestore(plan, ChunkFetcher(session), Path(wish["journal"]))
reads, kill_at = [0], wish.get("kill_at_read", 0)
read = session.read_frames
def counted(pack, frames):
    reads[0] += 1
    if reads[0] == kill_at:
        os.kill(os.getpid(), 9)
    return read(pack, frames)
session.read_frames = counted
result = run.run()
print(json.dumps({"files": result.files, "bytes": result.logical_bytes,
                  "findings": [one.code for one in run.findings.all()],
                  "transferred": result.transferred_bytes}))
"""
Outcome = tuple[int, dict[str, object]]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    remove_tree(tmp_path)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_plan, "WINDOW_ENTRIES", 40)
    monkeypatch.setattr(restore_plan, "WINDOW_BYTES", 2_000_000)


def below(target: Path, source: Path) -> Path:
    return target / str(source).lstrip("/")


def differences(source: Path, target: Path, *, owners: bool = True) -> list[str]:
    found = compare_inventories(
        take_inventory([source]),
        take_inventory([below(target, source)]),
        strip_right=str(target),
        owners=owners,
    )
    return found.lines


def restore_process(folder: Path, environment: dict[str, str], **wish: object) -> Outcome:
    """Restore in a process of its own: its exit code and what it printed."""
    full = {"vault": str(folder / "vault"), "journal": str(folder / "journal"),
            "target": str(folder / "target"), "conflict": "overwrite", **wish}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(full)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else {}


@pytest.mark.parametrize(
    ("conflict", "point"),
    [
        ("overwrite", "restore.window@2"),
        ("skip", "restore.synced@1"),
        ("keep-both", "restore.window@6"),
        ("skip", "read@5"),
        ("keep-both", "read@9"),
        ("overwrite", "read@12"),
    ],
)
def test_killed_and_started_again_it_ends_as_if_nothing_happened(
    folder: Path, conflict: str, point: str
) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    FilesVault(folder / "vault").back_up(source)
    environment, wish = {"HOLDFAST_TEST_CRASH": point}, {"conflict": conflict}
    if point.startswith("read@"):
        environment, wish = {}, {**wish, "kill_at_read": int(point[5:])}
    code, _ = restore_process(folder, environment, **wish)
    assert code == -signal.SIGKILL, "the kill hit a running restore"
    assert (folder / "journal").exists()
    assert target.exists()
    code, told = restore_process(folder, {}, conflict=conflict)
    assert (code, told["findings"]) == (0, [])
    assert differences(source, target) == []
    assert not (folder / "journal").exists()


def test_what_was_done_is_neither_fetched_nor_written_again(
    folder: Path, small_windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    whole, _ = vault.restore(RestorePlan(target=folder / "other"))
    monkeypatch.setattr(restore_sync, "SYNC_SECONDS", 0.0)
    plan = RestorePlan(target=target)
    stopped_after = 300

    def cancelled() -> bool:
        return run_box[0] is not None and run_box[0].progress.done_files >= stopped_after

    from holdfast.workloads.files.restore import FilesRestore
    from holdfast.workloads.files.restore_fetch import ChunkFetcher

    run_box: list[FilesRestore | None] = [None]
    session = vault.restore_session()
    run_box[0] = FilesRestore(plan, ChunkFetcher(session), folder / "journal", cancelled=cancelled)
    with pytest.raises(CancelledError):
        run_box[0].run()
    kept = _inodes(target)
    assert len(kept) >= stopped_after / 2
    assert not [name for name in kept if b".holdfast-partial" in name and b"looks" not in name]
    again, _ = vault.restore(plan, journal=folder / "journal")
    assert differences(source, target) == []
    now = _inodes(target)
    assert {name: now[name] for name in kept} == kept, "whole files stay the same files"
    assert again.transferred_bytes < whole.transferred_bytes * 0.9
    assert again.files == whole.files


def _inodes(target: Path) -> dict[bytes, int]:
    found = {}
    for path, entry in take_inventory([target]).entries.items():
        if entry.kind == 0o100000 and len(path) < 4000:
            found[path] = os.lstat(path).st_ino
    return found


def test_the_journal_never_claims_what_is_not_synced(
    folder: Path, small_windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder / "source"
    build_nasty_tree(source)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)

    def refuse(_: Sequence[int]) -> None:
        raise TargetError("the disk refuses to sync")

    monkeypatch.setattr(restore_sync, "sync_file_systems", refuse)
    with pytest.raises(TargetError):
        vault.restore(RestorePlan(target=folder / "target"), journal=folder / "journal")
    lines = (folder / "journal").read_text().splitlines()
    assert not [line for line in lines if line.startswith("w ")]


def test_windows_are_claimed_after_the_sync_that_follows_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    journal = RestoreJournal(folder / "journal", "request")
    claim = journal.finish_windows

    def claimed(numbers: list[int]) -> None:
        order.append(f"claim {numbers}")
        claim(numbers)

    monkeypatch.setattr(journal, "finish_windows", claimed)
    monkeypatch.setattr(restore_sync, "sync_file_systems", lambda fds: order.append(f"sync {fds}"))
    syncer = Syncer(lambda: [7], journal)
    syncer.window_written(0)
    syncer.window_written(1)
    syncer.finish()
    journal.close(delete=False)
    assert order == ["sync [7]", "claim [0, 1]"]
    assert RestoreJournal(folder / "journal", "request").done == {0, 1}


def test_a_torn_journal_claims_only_whole_lines(folder: Path) -> None:
    path = folder / "journal"
    first = RestoreJournal(path, "request")
    first.finish_windows([1, 2])
    first.will_make([b"a\nfolder"])
    first.close(delete=False)
    with path.open("ab") as out:
        out.write(b"w 12")  # of "w 123": the power went
    again = RestoreJournal(path, "request")
    assert again.resumed and again.done == {1, 2} and again.made(b"a\nfolder")
    again.finish_windows([3])
    again.close(delete=False)
    last = RestoreJournal(path, "request")
    assert last.done == {1, 2, 3}
    last.close(delete=False)
    other = RestoreJournal(path, "another request")
    assert not other.resumed and other.done == set()


def test_half_done_files_of_an_interrupted_run_are_removed(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    FilesVault(folder / "vault").back_up(source)
    code, _ = restore_process(folder, {}, kill_at_read=6)
    assert code == -signal.SIGKILL
    code, _ = restore_process(folder, {})
    assert code == 0
    partial = [path for path in take_inventory([target]).entries if b".holdfast-partial-" in path]
    assert [path.rpartition(b"-")[2] for path in partial] == [b"alike"]


@pytest.mark.skipif(not can_mount(), reason="mounting a small file system needs root")
def test_a_full_target_is_said_and_gone_on_with_after_space_was_made(
    folder: Path, small_windows: None
) -> None:
    source = folder / "source"
    source.mkdir()
    for number in range(60):
        (source / f"file-{number}").write_bytes(os.urandom(200_000))
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    with small_disk(folder / "disk", "6m") as disk:
        plan = RestorePlan(target=disk.folder / "target")
        with pytest.raises(TargetError) as caught:
            vault.restore(plan, journal=folder / "journal")
        assert caught.value.code == "TargetFull"
        assert "start the restore again" in caught.value.hint
        disk.resize("64m")
        vault.restore(plan, journal=folder / "journal")
        assert differences(source, plan.target) == []


def test_damage_costs_the_files_it_hit_and_names_them(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    source.mkdir()
    for number in range(12):
        (source / f"large-{number}").write_bytes(os.urandom(700_000))
    (source / "small").write_bytes(b"small")
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    pack = max(_packs(vault), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    with pack.open("r+b") as out:
        out.seek(pack.stat().st_size // 2)
        out.write(b"DAMAGED!")
    result, run = vault.restore(RestorePlan(target=target))
    codes = {one.code for one in run.findings.all()}
    lost = {os.fsdecode(one.path.rpartition(b"/")[2]) for one in run.findings.all()}
    assert codes == {"ContentDamaged"}
    assert 1 <= len(lost) <= 2
    assert set(os.listdir(below(target, source))) == set(os.listdir(source)) - lost
    assert all(": missing" in line for line in differences(source, target)[1:])
    assert result.findings_count == len(lost)


def _packs(vault: FilesVault) -> list[Path]:
    top = vault.folder / "store"
    return [path for path in top.rglob("*") if path.is_file() and f"/{PACKS}" in str(path)]


def test_an_unreachable_vault_ends_the_restore_and_leaves_nothing_half(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    session = vault.restore_session()
    read, count = session.read_frames, [0]

    def fails(pack: bytes, frames: Sequence[int]) -> object:
        count[0] += 1
        if count[0] > 4:
            raise HoldfastError("the server is gone", code="ServerUnreachable")
        return read(pack, frames)

    session.read_frames = fails  # type: ignore[method-assign,assignment]
    from holdfast.workloads.files.restore import FilesRestore
    from holdfast.workloads.files.restore_fetch import ChunkFetcher

    run = FilesRestore(RestorePlan(target=target), ChunkFetcher(session), folder / "journal")
    with pytest.raises(HoldfastError) as caught:
        run.run()
    assert caught.value.code == "ServerUnreachable"
    names = [path.rpartition(b"/")[2] for path in take_inventory([target]).entries]
    partial = {name for name in names if name.startswith(b".holdfast-partial-")}
    assert partial <= {b".holdfast-partial-looks-alike"}


@pytest.mark.skipif(not ROOT, reason="becomes another user, which root can")
def test_without_root_it_restores_what_it_may_and_lists_the_rest(folder: Path) -> None:
    import shutil
    import tempfile

    place = Path(tempfile.mkdtemp())  # another user can reach it
    try:
        place.chmod(0o777)
        source = place / "source"
        build_nasty_tree(source)
        FilesVault(place / "vault").back_up(source)
        subprocess.run(["chown", "-R", "65534:65534", str(place / "vault")], check=True)
        for _ in range(2):  # the second time over what the first one made, read-only folders too
            code, told = restore_process(place, {}, uid=65534)
            assert code == 0
            codes = set(told["findings"])
            assert codes == {
                "OwnerNotRestored",
                "GroupNotRestored",
                "ModeNotRestored",
                "NodeNotRestored",
                "AttributeNotRestored",
            }
            lines = differences(source, place / "target", owners=False)
            named = [line for line in lines if Path(line).parent.name != "root"]
            assert named == [], "all but what root alone may make is there"
            assert {line.rpartition("/")[2] for line in lines} == {
                "null: missing",
                "block: missing",
            }
    finally:
        remove_tree(place)
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.skipif(not ROOT, reason="becomes another user, which root can")
def test_without_root_attributes_of_what_is_read_only_come_back(folder: Path) -> None:
    import shutil
    import tempfile

    place = Path(tempfile.mkdtemp())  # another user can reach it
    try:
        place.chmod(0o777)
        source = place / "source"
        locked = source / "locked"
        locked.mkdir(parents=True)
        (locked / "file").write_bytes(b"read only")
        for path, mode in ((locked / "file", 0o444), (locked, 0o555)):
            os.setxattr(path, b"user.origin", b"here")
            path.chmod(mode)
        subprocess.run(["chown", "-R", "65534:65534", str(source)], check=True)
        FilesVault(place / "vault").back_up(source)
        subprocess.run(["chown", "-R", "65534:65534", str(place / "vault")], check=True)
        for _ in range(2):  # the second time over what the first one made
            code, told = restore_process(place, {}, uid=65534)
            assert code == 0
            assert list(told["findings"]) == [], "root's folders only lead there"
            assert differences(source, place / "target") == []
    finally:
        remove_tree(place)
        shutil.rmtree(place, ignore_errors=True)
