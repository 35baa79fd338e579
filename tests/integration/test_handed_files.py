"""What root makes for a QEMU of another user is never made, or given away, through a link of that
user's: its processes race us in every folder that is theirs."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.adapters.hypervisor.qemu import handing, images, scratch
from holdfast.adapters.hypervisor.qemu.drives import Drive
from holdfast.errors import SourceError
from holdfast.ports.hypervisor import Disk
from holdfast.testing.guest import guest_folder

MIB = 1 << 20
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root: only root gives files away")
    if shutil.which("qemu-img") is None:
        pytest.skip("needs qemu-img (qemu-utils)")
    with guest_folder() as found:
        yield found


@pytest.fixture
def drives(folder: Path) -> list[Drive]:
    found = []
    for lun in (-1, 0):
        path = folder / f"disk{lun}.qcow2"
        path.write_bytes(b"")
        os.chown(path, NOBODY, NOBODY)
        disk = Disk(lun, path.name, str(path), "qcow2", 32 * MIB, "")
        found.append(Drive(disk, f"disk{lun}", "", "", persistent=True, bitmaps=()))
    return found


def test_scratch_files_are_the_disks_owners_in_the_end(folder: Path, drives: list[Drive]) -> None:
    areas = scratch.make_areas(folder / "base" / "scratch", drives, 20)
    for path, mode in ((areas[0].path.parent, 0o700), *((area.path, 0o600) for area in areas)):
        found = path.lstat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (NOBODY, mode)
    for area in areas:
        assert images.image_size(area.path, "qcow2") == 32 * MIB
        assert area.path.stat().st_size == area.budget


def test_a_folder_is_ours_until_all_in_it_is_done(
    folder: Path, drives: list[Drive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step root could be led astray only by who owns the folder: that is root still."""
    steps: list[int] = []
    run, give = scratch.run_tool, handing.give

    def seen(*given: object, **more: object) -> object:
        steps.append((folder / "scratch").lstat().st_uid)
        return run(*given, **more)  # type: ignore[arg-type]

    def given(handle: int, drive: Drive) -> None:
        steps.append((folder / "scratch").lstat().st_uid)
        give(handle, drive)

    monkeypatch.setattr(scratch, "run_tool", seen)
    monkeypatch.setattr(handing, "give", given)
    scratch.make_areas(folder / "scratch", drives, 20)
    assert steps == [0] * 5


def test_a_folder_that_was_exchanged_meanwhile_leads_nowhere(
    folder: Path, drives: list[Drive], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns the folder above can rename ours and put one with links in its place."""
    treasure = folder / "treasure"
    treasure.write_bytes(b"of root")
    run = scratch.run_tool

    def exchange(*given: object, **more: object) -> object:
        place = folder / "scratch"
        if not (folder / "aside").exists():
            place.rename(folder / "aside")
            place.mkdir()
            for drive in drives:
                (place / f"{drive.ours('scr')}.qcow2").symlink_to(treasure)
        return run(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(scratch, "run_tool", exchange)
    scratch.make_areas(folder / "scratch", drives, 20)
    found = treasure.stat()
    assert (treasure.read_bytes(), found.st_uid) == (b"of root", 0)
    assert stat.S_IMODE(found.st_mode) != 0o600


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_lies_there_already_is_not_used(folder: Path, drives: list[Drive], kind: str) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    place = folder / "scratch"
    if kind == "link":
        place.symlink_to(elsewhere)
    else:
        place.mkdir()
    with pytest.raises(SourceError) as refused:
        scratch.make_areas(place, drives, 20)
    assert refused.value.code == "ScratchUnusable"
    assert str(place) in refused.value.message
    assert (list(elsewhere.iterdir()), elsewhere.stat().st_uid) == ([], 0)
