"""A storage daemon that never greets its first client, as QEMU's does once in a thousand starts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from holdfast.adapters.hypervisor.qemu import qmp, storage_daemon
from holdfast.adapters.hypervisor.qemu.storage_daemon import PROGRAM, StorageDaemon
from holdfast.errors import SourceError

MUTE = """\
import os, pathlib, socket, sys
starts = pathlib.Path({starts!r})
with starts.open("a") as told:
    told.write("x")
if len(starts.read_text()) > {mute}:
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
path = next(one[5:] for one in sys.argv[2].split(",") if one.startswith("path="))
pathlib.Path(path).unlink(missing_ok=True)
listening = socket.socket(socket.AF_UNIX)
listening.bind(path)
listening.listen(1)
client, _ = listening.accept()
while client.recv(4096):
    pass
"""


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each start of the daemon leaves a letter; clients wait half a second for a greeting."""
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.5)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "starts"


def put_mute(starts: Path, mute: int) -> None:
    real = shutil.which(PROGRAM, path=os.environ["PATH"].partition(os.pathsep)[2])
    if real is None:
        pytest.skip(f"needs {PROGRAM} (qemu-system-common)")
    program = starts.with_name(PROGRAM)
    text = MUTE.format(starts=str(starts), mute=mute, real=real)
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o700)


def test_a_daemon_that_does_not_greet_is_started_again(starts: Path) -> None:
    put_mute(starts, 1)
    folder = starts.parent
    daemon = StorageDaemon(folder)
    try:
        assert daemon.monitor.execute("query-block-exports") == []
    finally:
        daemon.close()
    assert starts.read_text() == "xx"


def test_a_daemon_that_never_greets_is_told_and_gone(
    starts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_mute(starts, 9)
    monkeypatch.setattr(storage_daemon, "END_SECONDS", 5.0)
    with pytest.raises(SourceError, match="accepts no further client"):
        StorageDaemon(starts.parent)
    assert starts.read_text() == "x" * storage_daemon.STARTS
