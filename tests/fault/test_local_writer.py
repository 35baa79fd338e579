"""Large objects are written past the page cache; what is refused there goes the plain way."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.adapters.object_store import local_writer
from holdfast.adapters.object_store.local_writer import (
    BUFFER_BYTES,
    PlainWriter,
    writer_for,
)

LARGE = local_writer.LARGE_BYTES


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "object", os.O_RDWR | os.O_CREAT, 0o600)
    yield opened
    os.close(opened)


def content(sizes: list[int]) -> list[bytes]:
    return [bytes([number % 251]) * size for number, size in enumerate(sizes, 1)]


def written(handle: int) -> bytes:
    return os.pread(handle, os.fstat(handle).st_size, 0)


def write(handle: int, parts: list[bytes]) -> None:
    writer = writer_for(handle, len(parts[0]))
    for part in parts:
        writer.write(memoryview(part))
    writer.finish()


@given(
    first=st.integers(LARGE, 2 * LARGE),
    rest=st.lists(st.integers(0, BUFFER_BYTES + 5000), max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_every_byte_arrives_in_its_place(
    tmp_path_factory: pytest.TempPathFactory, first: int, rest: list[int]
) -> None:
    path = tmp_path_factory.mktemp("direct") / "object"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        parts = content([first, *rest])
        write(handle, parts)
        assert path.read_bytes() == b"".join(parts)
    finally:
        os.close(handle)
        path.unlink()


def test_a_small_object_takes_the_plain_way(handle: int) -> None:
    assert isinstance(writer_for(handle, LARGE - 1), PlainWriter)
    write(handle, content([5, 7]))
    assert written(handle) == b"".join(content([5, 7]))


def is_direct(handle: int) -> bool:
    return bool(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT)


@pytest.mark.parametrize("good", [0, 1, 2], ids=["none", "one", "two"])
@pytest.mark.parametrize("taken", [0, 1000, 8192], ids=["refused", "odd", "short"])
def test_what_cannot_be_written_directly_goes_the_plain_way(
    handle: int, monkeypatch: pytest.MonkeyPatch, good: int, taken: int
) -> None:
    """After ``good`` whole writes the file system takes only ``taken`` bytes of a direct one."""
    real, left = os.write, [good]

    def write_some(fd: int, data: memoryview) -> int:
        if not is_direct(fd):
            return real(fd, data)
        left[0] -= 1
        if left[0] >= 0:
            return real(fd, data)
        if taken == 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        try:
            return real(fd, data[:taken])
        finally:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags)

    parts = content([BUFFER_BYTES, BUFFER_BYTES, BUFFER_BYTES, 12345])
    monkeypatch.setattr(local_writer.os, "write", write_some)
    write(handle, parts)
    monkeypatch.undo()
    assert written(handle) == b"".join(parts)


def test_a_disk_that_fails_is_told(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, data: memoryview) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(local_writer.os, "write", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write(handle, content([BUFFER_BYTES]))
