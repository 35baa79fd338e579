"""Folders root makes between those of the user machines run as: that user's processes rename them,
and put links in their place, at any moment."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu import booting
from holdfast.agent.vm.instant.rooms import known_room, new_room, remove_file
from holdfast.ports.machine_runner import Owner
from holdfast.testing.guest import guest_folder

MIB, NOBODY = 1 << 20, 65534
OWNER = Owner(NOBODY, NOBODY)


class Runner:
    """Makes images as QEMU's does; ``first``: what the other user does right before."""

    def __init__(self, *first: list[str]) -> None:
        self._first = first

    def image(self, path: Path, size: int, backing: tuple[Path, str] | None) -> None:
        for words in self._first:
            assert as_nobody(*words) == 0
        booting.make_image(path, size, backing)


def as_nobody(*words: str) -> int:
    done = subprocess.run(words, user=NOBODY, group=NOBODY, extra_groups=[], check=False)
    return done.returncode


def owned(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@pytest.fixture
def folder() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root: only root gives files away")
    if shutil.which("qemu-img") is None:
        pytest.skip("needs qemu-img (qemu-utils)")
    with guest_folder() as found:
        found.chmod(0o755)
        os.chown(found, NOBODY, NOBODY)
        yield found


def test_only_we_change_it_until_it_is_given(folder: Path) -> None:
    runner: Any = Runner()
    place = folder / "web"
    with new_room(place, OWNER) as room:
        room.take()
        room.image(runner, "disk.qcow2", 8 * MIB)
        assert owned(place) == (0, NOBODY, 0o710)
        image = place / "disk.qcow2"
        assert owned(image) == (NOBODY, NOBODY, 0o600)
        assert as_nobody("dd", f"if={image}", "of=/dev/null", "status=none") == 0
        assert as_nobody("ln", "-s", "/etc/passwd", str(place / "machine.json")) != 0
        assert as_nobody("rm", "-f", str(image)) != 0
        (room.inside / "machine.json").write_text("{}")
        room.give()
        number = room.number
    assert owned(place) == (NOBODY, NOBODY, 0o700)
    assert owned(place / "machine.json") == (NOBODY, NOBODY, 0o600)
    with known_room(place, number, OWNER) as again:
        assert again is not None
        again.take()
        assert as_nobody("rm", "-f", str(image)) != 0


def test_what_is_put_in_its_place_is_left_alone(folder: Path) -> None:
    """Also a folder of root's that lies beside."""
    place, away, other = folder / "web", folder / "away", folder / "other"
    other.mkdir(mode=0o700)
    rename, link = ["mv", str(place), str(away)], ["ln", "-s", str(other), str(place)]
    runner: Any = Runner(rename, link)
    with new_room(place, OWNER) as room:
        room.take()
        room.image(runner, "disk.qcow2", 8 * MIB)
        room.give()
        number = room.number
    assert list(other.iterdir()) == []
    assert owned(other) == (0, 0, 0o700)
    assert owned(away / "disk.qcow2") == (NOBODY, NOBODY, 0o600)
    (other / "disk.qcow2").touch()
    with pytest.raises(OSError, match="web"):
        remove_file(place / "disk.qcow2")
    assert (other / "disk.qcow2").exists()
    with known_room(place, number, OWNER) as found:
        assert found is None
    place.unlink()
    other.rename(place)
    with known_room(place, number, OWNER) as found:
        assert found is None
