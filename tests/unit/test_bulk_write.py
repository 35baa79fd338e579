"""Large pieces are written past the page cache where that works, and arrive whole either way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from holdfast.workloads.files.bulk_write import LARGE_BYTES, BulkWriter

DATA = os.urandom(3 * LARGE_BYTES + 17)


def written(path: Path, writer: BulkWriter) -> bytes:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        writer.write(fd, DATA, 5)
        writer.write(fd, b"small", 0)
    finally:
        os.close(fd)
    return path.read_bytes()


def test_pieces_arrive_whole_at_their_offset(tmp_path: Path) -> None:
    assert written(tmp_path / "file", BulkWriter()) == b"small" + DATA


def test_a_system_without_the_flag_gets_plain_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(fd: int, buffers: list[memoryview], offset: int, flags: int) -> int:
        asked.append(flags)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "pwritev", refuse)
    writer = BulkWriter(uncached=True)
    assert written(tmp_path / "file", writer) == b"small" + DATA
    assert len(asked) == 1, "it goes on asking"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def little(fd: int, buffers: list[memoryview], offset: int, flags: int) -> int:
        return real(fd, [buffers[0][: LARGE_BYTES // 2]], offset, flags)

    monkeypatch.setattr(os, "pwritev", little)
    assert written(tmp_path / "file", BulkWriter()) == b"small" + DATA


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, buffers: list[memoryview], offset: int, flags: int) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="no space"):
        written(tmp_path / "file", BulkWriter())
