"""The processes that scan, read and write for the agent: used on large trees, not missed when
lost."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from holdfast.testing.files_vault import FilesVault, LaterClock
from holdfast.workloads.files import (
    content,
    restore,
    restore_fetch,
    restore_pieces,
    scan_process,
    writer_helper,
)
from holdfast.workloads.files.child import Child, ChildLostError
from holdfast.workloads.files.compare import compare_inventories, take_inventory
from holdfast.workloads.files.restore import RestorePlan

FILES = 400


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree that counts as large."""
    monkeypatch.setattr(scan_process, "LARGE_ENTRIES", 30)
    monkeypatch.setattr(scan_process, "BATCH_BYTES", 2_000)
    monkeypatch.setattr(content, "MANY_FILES", 8)
    monkeypatch.setattr(writer_helper, "MANY_FILES", 8)
    monkeypatch.setattr(restore_pieces, "WORTH_FILES", 2)
    monkeypatch.setattr(restore_fetch, "RUN_BYTES", 200_000)
    folder, noise = tmp_path / "src", random.Random(5)
    for number in range(FILES):
        place = folder / f"d{number % 23}" / f"e{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file-{number}").write_bytes(noise.randbytes(noise.randrange(1, 30_000)))
    (folder / "d3" / "large").write_bytes(noise.randbytes(3_000_000))
    os.link(folder / "d0" / "e0" / "file-0", folder / "d9" / "link")
    os.setxattr(folder / "d1" / "e1" / "file-1", b"user.note", b"kept")
    return folder


class Watched(Child):
    """Counts what is started; dies after ``patience`` answers."""

    started: list[str] = []
    patience = 1 << 30

    def __init__(self, module: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
        super().__init__(module, *arguments, pass_fds=pass_fds)
        self.started.append(module.rpartition(".")[2])
        self._answered = 0

    def receive(self) -> bytes:
        if self._answered == self.patience:
            self._process.kill()
        self._answered += 1
        return super().receive()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    monkeypatch.setattr(Watched, "started", [])
    monkeypatch.setattr(Watched, "patience", 1 << 30)
    monkeypatch.setattr("holdfast.workloads.files.reader_process.Child", Watched)
    monkeypatch.setattr("holdfast.workloads.files.scan_process.Child", Watched)
    monkeypatch.setattr("holdfast.workloads.files.writer_process.Child", Watched)
    return Watched


def differences(vault: FilesVault, source: Path, out: Path) -> list[str]:
    _, run = vault.restore(RestorePlan(target=out))
    assert run.findings.all() == ()
    assert not list(out.rglob(".holdfast*"))
    kept = out / str(source).lstrip("/")
    compared = compare_inventories(
        take_inventory([source]), take_inventory([kept]), strip_right=str(out), owners=True
    )
    assert compared.compared > FILES
    return compared.lines


def test_a_large_tree_is_scanned_and_read_elsewhere(
    source: Path, tmp_path: Path, watched: type[Watched]
) -> None:
    vault = FilesVault(tmp_path / "vault")
    vault.clock = LaterClock()
    first = vault.back_up(source)
    assert sorted(watched.started) == ["reader_process", "scan_process"]
    assert first.findings_count == 0
    assert differences(vault, source, tmp_path / "out") == []
    (source / "d5" / "added").write_text("added")
    second = vault.back_up(source)
    assert second.transferred_bytes < 200_000
    assert differences(vault, source, tmp_path / "again") == []


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_a_lost_process_loses_nothing(
    source: Path,
    tmp_path: Path,
    watched: type[Watched],
    monkeypatch: pytest.MonkeyPatch,
    patience: int,
) -> None:
    monkeypatch.setattr(watched, "patience", patience)
    vault = FilesVault(tmp_path / "vault")
    made = vault.back_up(source)
    assert sorted(watched.started) == ["reader_process", "scan_process"]
    assert made.findings_count == 0
    assert differences(vault, source, tmp_path / "out") == []


def test_a_process_that_cannot_be_started_is_done_without(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Child:
        raise OSError(11, "no more processes")

    monkeypatch.setattr("holdfast.workloads.files.reader_process.Child", refuse)
    monkeypatch.setattr("holdfast.workloads.files.scan_process.Child", refuse)
    monkeypatch.setattr("holdfast.workloads.files.writer_process.Child", refuse)
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source)
    assert differences(vault, source, tmp_path / "out") == []


@pytest.mark.parametrize("patience", [1 << 30, 0, 1, 2])
def test_small_files_are_restored_by_a_process_that_may_be_lost(
    source: Path, tmp_path: Path, watched: type[Watched], patience: int
) -> None:
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source)
    watched.started.clear()
    watched.patience = patience
    assert differences(vault, source, tmp_path / "out") == []
    assert watched.started == ["writer_process"]


def test_what_the_writing_process_could_not_do_is_named(
    source: Path, tmp_path: Path, watched: type[Watched]
) -> None:
    """A folder that is not empty stands where a file should be: that one file is left out."""
    vault, out = FilesVault(tmp_path / "vault"), tmp_path / "out"
    vault.back_up(source)
    watched.started.clear()
    above = out / str(source).lstrip("/") / "d1" / "e1"
    (above / "file-1" / "full").mkdir(parents=True)
    result, run = vault.restore(RestorePlan(target=out))
    assert watched.started == ["writer_process"]
    shown = [(one.code, one.path) for one in run.findings.all()]
    assert shown == [
        ("NotRestored", os.fsencode(above / "file-1").removeprefix(b"%s/" % os.fsencode(out)))
    ]
    assert result.files == FILES + 1  # with the large one and the link, without this one


def test_a_damaged_frame_costs_its_own_files_only(
    source: Path, tmp_path: Path, watched: type[Watched]
) -> None:
    vault, out = FilesVault(tmp_path / "vault"), tmp_path / "out"
    vault.back_up(source)
    watched.started.clear()
    session = vault.restore_session()
    real = session.read_frames

    def altered(pack: bytes, frames: list[int]) -> bytes:
        data = bytearray(real(pack, frames))
        if 3 in frames and len(frames) > 1:
            data[len(data) // 2] ^= 1
        return bytes(data)

    session.read_frames = altered  # type: ignore[method-assign]
    run = restore.FilesRestore(RestorePlan(target=out), restore_fetch.ChunkFetcher(session))
    run.run()  # each frame is asked for once more by itself, and is whole then
    assert run.findings.all() == ()
    kept = out / str(source).lstrip("/")
    found = compare_inventories(
        take_inventory([source]), take_inventory([kept]), strip_right=str(out), owners=True
    )
    assert found.lines == []


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    child = Child("holdfast.workloads.files.scan_process")
    child._orders.close()
    with pytest.raises(ChildLostError):
        child.receive()
    assert child._process.wait(30) == 0
    child.close()


def test_an_include_below_an_include_hides_nothing(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "a" / "b" / "c").mkdir(parents=True)
    for place in ("top", "a/beside-a", "a/b/beside-b", "a/b/c/inside"):
        (source / place).write_text(place)
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source, source / "a" / "b" / "c")
    out = tmp_path / "out"
    vault.restore(RestorePlan(target=out))
    kept = out / str(source).lstrip("/")
    found = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert found == {"top", "a/beside-a", "a/b/beside-b", "a/b/c/inside"}
