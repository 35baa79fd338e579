"""A machine's recovery point whose disks are raw images with file systems, looked into as an agent
does; and what is put into those file systems."""

from __future__ import annotations

import os
import stat as st
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from holdfast.agent.vm.files import disk_name, list_files, restore_files
from holdfast.agent.vm_work import VmControl
from holdfast.ports.point_files import FileLooker, PointFiles
from holdfast.ports.vm_tasks import FilesListed, FilesOut, VmRestore, VmRestored
from holdfast.testing.disks_vault import DisksVault
from holdfast.testing.files_vault import DirectSession
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.point_disk import PointDisk
from holdfast.workloads.vm.disks.raw_file import RawFileSource
from holdfast.workloads.vm.disks.values import DiskInput

ODD = b"new\nline \xff\xfe \xc3\xa4 'quote' \\ *"
UUID = "00000000-0000-0000-0000-000000000001"


class Point:
    """A recovery point of raw images, looked into as an agent does."""

    def __init__(self, folder: Path, looker: FileLooker, images: dict[int, Path]) -> None:
        self.vault = DisksVault(folder / "vault")
        self.looker = looker
        self.findings: dict[bytes, str] = {}
        disks = [
            DiskInput(lun=lun, source=RawFileSource(path), identity=str(lun))
            for lun, path in images.items()
        ]
        self.vault.back_up(*disks)

    @contextmanager
    def _session(self) -> Iterator[Any]:
        files, vault = self.vault.files, self.vault.vault
        pins = [self.vault.latest()]
        grant = vault.begin_session(
            "restore", "Linux;host1", "Linux;host1/VM;web", files.job_id(), pins=pins
        )
        session = DirectSession(vault, grant, files.clock)
        try:
            yield session
        finally:
            session.close()

    @contextmanager
    def looked(self) -> Iterator[PointFiles]:
        """Its disks, opened for looking."""
        with self._session() as session, ExitStack() as ending:
            point = MachinePoint(ChunkFetcher(session))
            disks = {}
            for entry in point.disks:
                opened = PointDisk(point, entry.lun)
                ending.callback(opened.close)
                disks[disk_name(entry.lun)] = opened
            yield ending.enter_context(self.looker.open(disks))

    def list(self, path: str, **more: Any) -> VmRestored:
        with self._session() as session:
            control = VmControl(lambda: False)
            return list_files(self.looker, FilesListed(path=path, **more), session, control)

    def rows(self, path: str) -> dict[str, Any]:
        return {row.name: row for row in self.list(path).entries}

    def restore(
        self, to: Path, *paths: str, cancelled: Callable[[], bool] = lambda: False, **more: Any
    ) -> VmRestored:
        control = VmControl(cancelled)
        target = FilesOut(folder=str(to), paths=paths, **more)
        asked = VmRestore(recovery_point_id="rp1", uuid=UUID, name="web", target=target)
        with self._session() as session:
            try:
                return restore_files(self.looker, asked, target, session, control)
            finally:
                self.findings = {one.path: one.code for one in control.findings.all()}


def tree(folder: Path) -> None:
    """What every file system can hold."""
    inner = folder / "docs" / "sub"
    inner.mkdir(parents=True)
    (folder / "docs" / "hello.txt").write_bytes(b"hello\n")
    (inner / "random.bin").write_bytes(os.urandom(700_000))
    (inner / "empty").touch()


def unix_tree(folder: Path) -> None:
    """With what only Unix's file systems can hold."""
    tree(folder)
    docs = folder / "docs"
    (docs / "hello.txt").chmod(0o640)
    os.chown(docs / "hello.txt", 1000, 1001)
    (docs / "link").symlink_to("sub/random.bin")
    (folder / "way").symlink_to("/docs/sub")
    with (docs / "holes").open("wb") as file:
        file.seek(3_000_000)
        file.write(b"end")
        file.truncate(5_000_000)
    os.utime(docs / "hello.txt", ns=(1, 1_234_567_890_123_456_789))
    odd = os.path.join(os.fsencode(docs), ODD)
    Path(os.fsdecode(odd)).write_bytes(b"odd")
    os.mkfifo(docs / "pipe")
    os.mknod(docs / "device", st.S_IFCHR | 0o666, os.makedev(1, 3))
    (docs / "suid").write_bytes(b"#!/bin/sh\n")
    (docs / "suid").chmod(0o4755)


def state(path: Path) -> tuple[Any, ...]:
    """What a restored entry has to have as the original had it."""
    info = path.lstat()
    kind, mode = st.S_IFMT(info.st_mode), st.S_IMODE(info.st_mode) & 0o1777
    if st.S_ISLNK(info.st_mode):
        return kind, path.readlink(), info.st_uid, info.st_gid
    content = path.read_bytes() if st.S_ISREG(info.st_mode) else b""
    return kind, mode, info.st_uid, info.st_gid, info.st_mtime_ns, content


def states(folder: Path) -> dict[str, tuple[Any, ...]]:
    return {str(path.relative_to(folder)): state(path) for path in folder.rglob("*")}
