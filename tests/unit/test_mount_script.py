"""The script that mounts a recovery point, without a server and without mounting: what it does when
something fails."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.arm.item_recovery import _plain
from holdfast.mount_script import mount_point
from holdfast.mount_script.mount_point import Mounts, OverError, Source

DISK = {"lun": -1, "name": "osdisk", "sizeBytes": 5}
Answer = tuple[int, bytes, float] | Exception


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # such as an old Python has
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: context)
    monkeypatch.setitem(mount_point.SETTINGS, "authority", "")
    monkeypatch.setattr(mount_point, "FIRST_PAUSE", 0.0)


def server(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> Source:
    """One that answers so, in this order."""
    left = list(answers)

    def get(_source: Source, _path: str) -> tuple[int, bytes, float]:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Source, "_get", get)
    return Source("password")


def test_a_server_that_is_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    away: list[Answer] = [ConnectionRefusedError(), ConnectionResetError(), TimeoutError()]
    busy: list[Answer] = [(503, b"", 0.0), (429, b"", 0.01), (500, b"", 0.0)]
    source = server(monkeypatch, *away, *busy, (200, b"hello", 0.0))
    assert source.read(DISK, 0, 5) == b"hello"


def test_what_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (OverError("over"), (409, b"{}", 0.0), ssl.SSLCertVerificationError("not it")):
        with pytest.raises((OverError, OSError)):
            server(monkeypatch, answer).read(DISK, 0, 5)
    source = server(monkeypatch, (503, b"", 3600.0))
    with pytest.raises(OSError, match="503"):
        source.read(DISK, 0, 5)
    source = server(monkeypatch, (503, b"", 60.0))
    source.ending.set()
    with pytest.raises(OSError, match="503"):
        source.read(DISK, 0, 5)


class Undone:
    """Mounts of which something has to be undone, with programs that fail."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.mounts = Mounts(server(monkeypatch), folder / "to")
        monkeypatch.setattr(mount_point, "run", self.run)
        monkeypatch.setattr(mount_point, "kind_of", lambda _loop: "ext4")

    def run(self, *words: str) -> str:
        self.ran.append(words)
        if words[0] != "mount":
            raise OSError(f"{words[0]} failed")
        return ""


def test_every_step_of_the_end_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undone = Undone(tmp_path, monkeypatch)
    own = tmp_path / "to" / "osdisk-p1"
    own.mkdir(parents=True)
    for name in ("osdisk-p1", "osdisk-p2"):
        undone.mounts._mount(name, f"/dev/loop-{name}")
        undone.mounts._loops.append(f"/dev/loop-{name}")
    undone.mounts.close()
    ends = [words[-1] for words in undone.ran if words[0] in ("umount", "losetup")]
    assert ends == [
        *[str(tmp_path / "to" / "osdisk-p2")] * 2,
        *[str(own)] * 2,
        "/dev/loop-osdisk-p2",
        "/dev/loop-osdisk-p1",
    ]
    assert list((tmp_path / "to").iterdir()) == [own], "the operator's own folder stays"
    assert not undone.mounts._folder.exists()
    said = capsys.readouterr().out
    assert said.count("could not unmount") == 2 and said.count("could not release") == 2


def test_what_is_mounted_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone = Undone(tmp_path, monkeypatch)
    undone.mounts._mount("osdisk-p1", "/dev/loop0")
    assert (tmp_path / "to").stat().st_mode & 0o777 == 0o700
    undone.mounts.close()


STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()"


def test_a_daemon_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone = Undone(tmp_path, monkeypatch)
    monkeypatch.setattr(mount_point, "END_SECONDS", 0.1)
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        undone.mounts._daemons.append((tmp_path / "image", daemon))
        undone.mounts.close()
        assert daemon.wait(60) == -9
    assert undone.ran == [("umount", "--lazy", str(tmp_path / "image"))]


@pytest.mark.parametrize("machine", ["../..", "/etc", "a/../b", "..", ""])
def test_a_machine_s_name_leads_nowhere(machine: str) -> None:
    name = Path(f"{_plain(machine)}-17")
    assert len(name.parts) == 1 and ".." not in str(name)


def test_names_do_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    mount_point.say("web\x1b]0;title\x07")
    assert capsys.readouterr().out == "web?]0;title?\n"


def test_an_old_python_speaks_no_old_tls() -> None:
    assert Source("password")._tls.minimum_version is ssl.TLSVersion.TLSv1_2
