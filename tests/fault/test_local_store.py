"""A local store on a disk that fails, fills up, loses power, or is let go of at any moment."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast.adapters.object_store import open_store
from holdfast.adapters.object_store.local import LocalStore
from holdfast.errors import (
    HoldfastError,
    ObjectExistsError,
    ObjectMissingError,
    StoreFullError,
    StoreUnavailableError,
)
from holdfast.testing.object_store_suite import send
from holdfast.testing.small_disk import can_mount, small_disk

KEY = "packs/session/pack"
DATA = bytes(range(251)) * 12_000  # more than is written back at once
CALLS = ("open", "write", "posix_fadvise", "fsync", "link", "mkdir", "unlink", "close")


class Interposed:
    """Counts the system calls of a write and lets ``strike`` act before the nth."""

    def __init__(self, patch: pytest.MonkeyPatch, nth: int, strike: Callable[[str], None]) -> None:
        self.count = 0
        self.nth = nth
        self.strike = strike
        for name in CALLS:
            patch.setattr(os, name, self._before(name, getattr(os, name)))

    def _before(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            self.count += 1
            if self.count == self.nth:
                self.strike(name)
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_an_error_of_any_system_call_is_told_and_leaves_no_half(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(name: str) -> None:
        raise OSError(number, os.strerror(number))

    told = 0
    for nth in range(1, 100):
        root = tmp_path / str(nth)
        store = LocalStore(root)
        with monkeypatch.context() as patch:
            calls = Interposed(patch, nth, strike)
            error = outcome(lambda store=store: send(store, KEY, DATA))  # type: ignore[misc]
        if calls.count < nth:
            break
        told += error is not None
        found = open_store(root.as_uri()).size(KEY)
        assert found in (None, len(DATA))
        if error is None or isinstance(error, StoreFullError):
            assert (found is None) == (error is not None), (nth, error)
        again = outcome(lambda store=store: send(store, KEY, DATA))  # type: ignore[misc]
        assert isinstance(again, ObjectExistsError) == (found is not None)
        assert LocalStore(root).read(KEY) == DATA
    assert told >= 8


def outcome(action: Callable[[], None]) -> HoldfastError | None:
    try:
        action()
    except HoldfastError as error:
        assert error.hint or isinstance(error, ObjectExistsError)
        return error
    return None


CRASHING = """
import os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from test_local_store import CALLS, DATA, KEY, Interposed
from holdfast.adapters.object_store.local import LocalStore
from holdfast.testing.object_store_suite import send

class Patch:
    def setattr(self, owner, name, value):
        setattr(owner, name, value)

for nth in range(1, 100):
    child = os.fork()
    if child == 0:
        exit_now = os._exit
        Interposed(Patch(), nth, lambda name: exit_now(9))
        send(LocalStore(Path(sys.argv[1]) / str(nth)), KEY, DATA)
        exit_now(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(nth)
"""


def test_a_crash_before_any_system_call_leaves_the_object_whole_or_absent(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    steps = int(done.stdout)
    assert steps > 20
    seen = set()
    for nth in range(1, steps):
        store = open_store((tmp_path / str(nth)).as_uri())
        assert list((tmp_path / str(nth) / "+tmp").iterdir()) == []
        size = store.size(KEY)
        seen.add(size)
        assert [info.key for info in store.list()] == ([] if size is None else [KEY])
        if size is None:
            send(store, KEY, DATA)
        assert store.read(KEY) == DATA
    assert seen == {None, len(DATA)}


@dataclass
class PowerCut:
    """What would be left if the power failed now, by the promises of fsync alone.

    Written bytes last once their file was synced; names last once their folder was."""

    written: set[int] = field(default_factory=set)  # inodes with bytes that may be lost
    names: dict[str, bool] = field(default_factory=dict)  # names made, and whether they last
    inode_of: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """No name may outlast the bytes it stands for."""
        for name, lasting in self.names.items():
            if lasting and name in self.inode_of:
                assert self.inode_of[name] not in self.written, f"{name} would be empty"

    def fsync(self, fd: int) -> None:
        place = Path(f"/proc/self/fd/{fd}").readlink()
        self.written.discard(os.fstat(fd).st_ino)
        for name in self.names:
            if Path(name).parent == place:
                self.names[name] = True
        self.check()


def test_what_a_create_returned_from_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = PowerCut()
    real = {name: getattr(os, name) for name in ("write", "fsync", "link", "mkdir")}

    def write(fd: int, data: bytes) -> int:
        disk.written.add(os.fstat(fd).st_ino)
        return int(real["write"](fd, data))

    def fsync(fd: int) -> None:
        real["fsync"](fd)
        disk.fsync(fd)

    def link(source: Path, target: Path) -> None:
        real["link"](source, target)
        disk.names[str(target)] = False
        disk.inode_of[str(target)] = os.stat(target).st_ino

    def mkdir(path: Path, mode: int = 0o777) -> None:
        real["mkdir"](path, mode)
        disk.names[str(path)] = False

    for name, fake in (("write", write), ("fsync", fsync), ("link", link), ("mkdir", mkdir)):
        monkeypatch.setattr(os, name, fake)
    store = LocalStore(tmp_path / "new" / "root")
    for key in ("descriptor", KEY, "packs/session/other", "log/1"):
        send(store, key, DATA)
        assert all(disk.names.values()), [n for n, lasting in disk.names.items() if not lasting]
    assert len(disk.names) == 4 + 6  # the objects; new, root, +tmp, packs, session, log


def test_bytes_lost_by_the_disk_never_become_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports lost pages to one fsync; the next one succeeds."""
    store = LocalStore(tmp_path)
    upload = store.upload(KEY)
    upload.write(DATA)
    fail_once(monkeypatch, "fsync", errno.EIO)
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            upload.publish()
    upload.abort()
    assert store.size(KEY) is None
    send(store, KEY, DATA)
    assert store.read(KEY) == DATA


def test_an_upload_whose_write_broke_off_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    upload = store.upload(KEY)
    upload.write(b"first")
    with monkeypatch.context() as patch:
        fail_once(patch, "write", errno.ENOSPC)
        with pytest.raises(StoreFullError):
            upload.write(b"second")
    with pytest.raises(StoreUnavailableError):
        upload.publish()
    upload.abort()
    assert store.size(KEY) is None


def fail_once(patch: pytest.MonkeyPatch, name: str, number: int) -> None:
    real = getattr(os, name)
    left = [number]

    def call(*args: object) -> object:
        if left:
            raise OSError(left.pop(), "injected")
        return real(*args)

    patch.setattr(os, name, call)


@pytest.mark.parametrize("look", ["size", "read", "list", "create"])
def test_a_name_that_may_not_last_is_synced_before_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    store = LocalStore(tmp_path)
    store.create("log/0", b"x")
    folder = os.stat(tmp_path / "log").st_ino
    real, broken, synced = os.fsync, [True], []

    def fsync(fd: int) -> None:
        if os.fstat(fd).st_ino == folder:
            if broken[0]:
                raise OSError(errno.EIO, "injected")
            synced.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreUnavailableError):
        store.create("log/1", b"record")
    looks: dict[str, Callable[[], object]] = {
        "size": lambda: store.size("log/1"),
        "read": lambda: store.read("log/1"),
        "list": lambda: list(store.list("log/")),
        "create": lambda: store.create("log/1", b"record"),
    }
    with pytest.raises(StoreUnavailableError):
        looks[look]()
    broken[0] = False
    assert not synced
    if look == "create":
        with pytest.raises(ObjectExistsError):
            looks[look]()
    else:
        looks[look]()
    assert len(synced) == 1


WRITING = """
import sys
from pathlib import Path
from holdfast.adapters.object_store.local import LocalStore
upload = LocalStore(Path(sys.argv[1])).upload("a")
upload.write(b"half")
print("written", flush=True)
sys.stdin.read()
"""


def test_leftovers_go_with_their_writer_and_not_before(tmp_path: Path) -> None:
    """Whoever lives keeps what it writes, even one whose process cannot be seen from here."""
    store = LocalStore(tmp_path)
    unseen = store.upload("b")
    unseen.write(b"whole")
    unseen._path = unseen._path.rename(tmp_path / "+tmp" / "999999999-0-1")
    command = [sys.executable, "-c", WRITING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        assert store.remove_leftovers() == 0
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert store.remove_leftovers() == 1
    unseen.publish()
    assert {info.key for info in store.list()} == {"b"}
    assert list((tmp_path / "+tmp").iterdir()) == []


def test_a_temporary_file_that_vanished_is_a_failure_of_the_store(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    upload = store.upload(KEY)
    upload.write(DATA)
    upload._path.unlink()
    with pytest.raises(StoreUnavailableError):
        upload.publish()
    upload.abort()


def test_what_is_no_object_is_passed_over(tmp_path: Path) -> None:
    """The root of a disk has folders of the file system, and people leave things."""
    store = LocalStore(tmp_path)
    store.create("a/b", b"x")
    (tmp_path / "lost+found").mkdir(mode=0)
    (tmp_path / "a" / "Copy of b").write_bytes(b"y")
    assert [info.key for info in store.list()] == ["a/b"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if not can_mount():
        pytest.skip("a file system can be mounted only by root")
    with small_disk(tmp_path / "disk", "4m") as found:
        yield found.folder


def test_a_full_disk_is_told_and_can_be_freed(disk: Path) -> None:
    store = LocalStore(disk)
    send(store, "packs/1", DATA)
    with pytest.raises(StoreFullError) as caught:
        send(store, "packs/2", DATA)
    assert "expire" in caught.value.hint
    with pytest.raises(StoreFullError):
        store.create("packs/3", DATA)
    assert [info.key for info in store.list()] == ["packs/1"]
    assert list((disk / "+tmp").iterdir()) == []
    store.create("log/1", b"a small one still fits")
    store.delete("packs/1")
    send(store, "packs/2", DATA)
    assert store.read("packs/2") == DATA


def test_a_store_that_is_mounted_read_only_can_be_read(disk: Path) -> None:
    LocalStore(disk).create("a/b", b"x")
    (disk / "+tmp").rmdir()  # as in a copy made from a bucket
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    store = open_store(disk.as_uri())
    assert store.read("a/b") == b"x"
    assert [info.key for info in store.list()] == ["a/b"]
    with pytest.raises(ObjectMissingError):
        store.read("c")
    for call in (lambda: store.create("c", b"y"), lambda: store.delete("a/b")):
        with pytest.raises(StoreUnavailableError) as caught:
            call()
        assert caught.value.hint
    assert store.read("a/b") == b"x"


def test_a_folder_that_was_moved_away_is_never_made_anew(tmp_path: Path) -> None:
    root, away = tmp_path / "store", tmp_path / "away"
    send(LocalStore(root), KEY, DATA)
    for look in (
        lambda store: store.read(KEY),
        lambda store: store.size(KEY),
        lambda store: send(store, "packs/other", DATA),
    ):
        store = LocalStore(root)
        look(store)
        upload = store.upload("packs/late")
        upload.write(DATA)
        (root / "packs").rename(away)
        with pytest.raises(StoreUnavailableError) as gone:
            upload.publish()
        upload.abort()
        assert "put it back" in gone.value.hint
        assert outcome(lambda store=store: store.create("packs/next/one", DATA))  # type: ignore[misc]
        assert not (root / "packs").exists()
        away.rename(root / "packs")
        send(store, f"packs/again-{len(list(store.list()))}", DATA)
