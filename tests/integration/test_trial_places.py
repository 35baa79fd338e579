"""Machines that run from the vault lie in a folder of QEMU's user, who may put links there: root's
work for them ends where it was meant to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu import handing
from holdfast.agent.vm.instant.serving import served
from holdfast.errors import TargetError
from holdfast.files import read_theirs
from holdfast.nbd.address import UnixSocket
from holdfast.ports.machine_runner import Owner
from holdfast.testing.guest import guest_folder

NOBODY = 65534
OWNER = Owner(NOBODY, NOBODY)
NO_POINT: Any = None  # a machine without disks needs none


@pytest.fixture
def home() -> Iterator[Path]:
    """Of a machine that was started before: QEMU's user's."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root gives files away")
    with guest_folder() as found:
        os.chown(found, NOBODY, NOBODY)
        made = found / "web.instant"
        made.mkdir(mode=0o700)
        os.chown(made, NOBODY, NOBODY)
        yield made


def test_the_socket_is_its_users_and_stays_where_it_is(home: Path) -> None:
    socket = home / "vault" / "nbd.sock"
    for _ in range(2):
        with served(NO_POINT, [], socket, OWNER):
            UnixSocket(socket).open(5).close()
            for path, mode in ((socket.parent, 0o700), (socket, 0o600)):
                found = path.lstat()
                assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (NOBODY, mode)
        assert not socket.exists()


def test_a_link_in_place_of_the_sockets_folder_gives_nothing_away(home: Path) -> None:
    treasure = home.parent / "treasure"
    treasure.mkdir(mode=0o700)
    (home / "vault").symlink_to(treasure)
    with pytest.raises(TargetError), served(NO_POINT, [], home / "vault" / "nbd.sock", OWNER):
        pass
    assert (treasure.stat().st_uid, list(treasure.iterdir())) == (0, [])


def test_a_folder_open_to_others_is_not_the_sockets(home: Path) -> None:
    (home / "vault").mkdir(mode=0o755)
    with pytest.raises(TargetError), served(NO_POINT, [], home / "vault" / "nbd.sock", OWNER):
        pass
    assert stat.S_IMODE((home / "vault").stat().st_mode) == 0o755


def test_what_was_made_for_a_machine_is_given_and_no_link_followed(home: Path) -> None:
    treasure = home.parent / "treasure"
    treasure.write_bytes(b"of root")
    fresh = home.parent / "fresh.instant"
    fresh.mkdir(mode=0o700)
    (fresh / "disk-os.qcow2").touch()
    handing.give_home(fresh, ["disk-os.qcow2"], OWNER)
    assert {fresh.stat().st_uid, (fresh / "disk-os.qcow2").stat().st_uid} == {NOBODY}
    (fresh / "disk-0.qcow2").symlink_to(treasure)
    handing.give_home(fresh, ["disk-0.qcow2"], OWNER)  # as when it is started again
    swapped = home.parent / "swapped.instant"
    swapped.symlink_to(home.parent)
    with pytest.raises(OSError):
        handing.give_home(swapped, ["treasure"], OWNER)
    ours = home.parent / "ours.instant"
    ours.mkdir(mode=0o755)
    (ours / "disk-os.qcow2").symlink_to(treasure)
    with pytest.raises(OSError):
        handing.give_home(ours, ["disk-os.qcow2"], OWNER)
    assert (treasure.stat().st_uid, ours.stat().st_uid) == (0, 0)


def test_a_folder_put_in_place_of_a_new_one_is_not_taken_for_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its opening."""
    disk = home.parent / "disk.qcow2"
    disk.touch()
    os.chown(disk, NOBODY, NOBODY)
    others = home.parent / "of-root"
    others.mkdir(mode=0o755)
    place = home.parent / ".holdfast-scratch-1"
    with handing.new_folder(place) as handle:
        handing.give_as(handle, str(disk))
    assert place.stat().st_uid == NOBODY
    place.rmdir()
    made = Path.mkdir

    def exchanged(path: Path, *args: Any, **more: Any) -> None:
        made(path, *args, **more)
        path.rmdir()
        others.rename(path)

    monkeypatch.setattr(Path, "mkdir", exchanged)
    with pytest.raises(FileExistsError), handing.new_folder(place) as handle:
        handing.give_as(handle, str(disk))
    assert place.stat().st_uid == 0


def test_what_qemus_user_wrote_is_read_as_nothing_else(tmp_path: Path) -> None:
    screen = tmp_path / "screen.png"
    screen.write_bytes(b"a picture")
    assert read_theirs(screen, 9) == b"a picture"
    with pytest.raises(OSError):
        read_theirs(screen, 8)
    for name in ("link", "pipe", "hard"):
        path = tmp_path / name
        if name == "link":
            path.symlink_to(screen)
        elif name == "pipe":
            os.mkfifo(path)
        else:
            path.hardlink_to(screen)
        with pytest.raises(OSError):
            read_theirs(path, 100)
