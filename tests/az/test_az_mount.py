"""`az backup restore files mount-rp`: the script `az` writes mounts a recovery point here, read
only, until `unmount-rp`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.mount_script import mount_point
from holdfast.testing.azure_cli import Az, log_in
from holdfast.testing.disk_images import SIZES, missing_image_tools, partitioned, put_files
from holdfast.testing.live_server import live_server
from holdfast.testing.raw_vms import RawVms
from holdfast.testing.vm_farm import WEB, Farm, vm_farm

PROGRAM = Path(__file__).parents[2] / ".venv-az" / "bin" / "az"
QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}
ITEM = ("-g", "rg-mount", "-v", "mount", "-c", "web", "-i", "web")
BIG = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    if missing := {*missing_image_tools(), *mount_point.missing()}:
        pytest.skip(f"needs {', '.join(sorted(missing))}: disks are made and mounted")
    folder = tmp_path_factory.mktemp("az-mount")
    kinds = ("ext4", "xfs")
    image = partitioned(folder / "system.raw", "gpt", [SIZES[kind] for kind in kinds])

    def fill(inner: Path) -> None:
        (inner / "etc").mkdir()
        (inner / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
        (inner / "big").write_bytes(BIG)

    for number, kind in enumerate(kinds, 1):
        put_files(image, number, kind, fill)
    locked = folder / "locked.raw"
    locked.write_bytes(b"LUKS\xba\xbe\x00\x02" + os.urandom(1 << 20))
    vms = RawVms(folder / "host", WEB, "web", {-1: image, 0: locked})
    with (
        live_server(folder / "server", QUICK) as server,
        vm_farm(server, folder / "host", "mount", vms) as made,
    ):
        made.spot.protect("web")
        made.back_up("web")
        yield made


@pytest.fixture(scope="module")
def shell(farm: Farm) -> Az:
    server = farm.server
    where: Any = SimpleNamespace(port=server.port, server_data=server.data, folder=farm.folder)
    return log_in(PROGRAM, where)


@contextmanager
def mounted(script: Path, password: str, to: Path) -> Iterator[subprocess.Popen[str]]:
    """The script at work: its first lines are read until it waits."""
    environment = {
        **os.environ,
        "HOLDFAST_PASSWORD": password,
        "HOLDFAST_CHECK_SECONDS": "0.5",
    }
    running = subprocess.Popen(
        [sys.executable, "-I", str(script), "--to", str(to)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield running
    finally:
        running.terminate()
        running.communicate(timeout=60)


def told(running: subprocess.Popen[str], until: str) -> str:
    assert running.stdout is not None
    found = ""
    for line in running.stdout:
        found += line
        if until in line:
            return found
    raise AssertionError(found)


def loops() -> str:
    listed = subprocess.run(
        ["losetup", "-a"], capture_output=True, text=True, check=True, env=search()
    )
    return listed.stdout


def search() -> dict[str, str]:
    return {**os.environ, "PATH": mount_point.SEARCH}


@pytest.mark.az("backup restore files mount-rp", "backup restore files unmount-rp")
def test_a_point_is_mounted_and_unmounted(
    az: Az, farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    points = farm.server.ok("GET", f"{farm.spot.item('web')}/recoveryPoints")["value"]
    point = ("-r", points[0]["name"])
    before = loops()
    said = az.run("backup", "restore", "files", "mount-rp", *ITEM, *point).err
    named = re.search(r"File downloaded: (\S+). Use password (\S+)", said)
    assert named, said
    script, password, to = tmp_path / named[1], named[2], tmp_path / "mnt"
    assert script.name.startswith("web_") and password not in script.read_text()
    with mounted(script, password, to) as running:
        shown = told(running, "mounted until")
        assert "disk0 holds crypto_LUKS" in shown
        for volume in ("osdisk-p1", "osdisk-p2"):
            assert (to / volume / "etc/hosts").read_text() == "127.0.0.1 localhost\n"
            assert (to / volume / "big").read_bytes() == BIG
            with pytest.raises(OSError, match="Read-only"):
                (to / volume / "new").touch()
        az.run("backup", "restore", "files", "unmount-rp", *ITEM, *point)
        assert "unmounting: the recovery point is not open" in told(running, "unmounting")
        assert running.wait(60) == 0
    assert list(to.iterdir()) == []
    assert loops() == before
    with mounted(script, password, to) as running:
        assert "not open for reading" in told(running, "cannot go on")
        assert running.wait(60) == 1


@pytest.mark.az("backup restore files mount-rp")
def test_ended_on_this_side(
    az: Az, farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    points = farm.server.ok("GET", f"{farm.spot.item('web')}/recoveryPoints")["value"]
    said = az.run("backup", "restore", "files", "mount-rp", *ITEM, "-r", points[0]["name"]).err
    named = re.search(r"File downloaded: (\S+). Use password (\S+)", said)
    assert named, said
    before, to = loops(), tmp_path / "mnt"
    with mounted(tmp_path / named[1], named[2], to) as running:
        told(running, "mounted until")
        running.terminate()
        assert "unmounting" in told(running, "unmounting")
        assert running.wait(60) == 0
    assert list(to.iterdir()) == []
    assert loops() == before
