"""Content of files on its way to the target: checked against the file's digest while written."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.entries import Entry
from holdfast.vaultstore.ids import ChunkKind, IdKeys, chunk_name, content_hasher
from holdfast.vaultstore.seal import FrameBinding, check_id, open_frame
from holdfast.workloads.files.paths import Folder
from holdfast.workloads.files.restore_writer import EntryWriter, fail

BLOCK = 1024 * 1024
EARLY_BYTES = 24 * 1024 * 1024


def _is_named_by(digest: bytes, kind: int, chunk_id: bytes) -> bool:
    """Whether a chunk's id is what proves a file with this digest: the file has none, or is the
    chunk. Otherwise the digest proves what is taken from the chunk."""
    return not digest or (kind == ChunkKind.DATA and chunk_id == digest)


def open_for_files(
    keys: IdKeys, key: bytes, binding: FrameBinding, sealed: Buffer, digests: Iterable[bytes]
) -> Buffer:
    """A frame's plain bytes, which go to files with these ``digests``. They are hashed for the
    chunk's id only where that proves a file; each digest is checked as its file is written.
    IntegrityError (FrameDamaged, ChunkForged)."""
    plain = open_frame(key, binding, sealed)
    if any(_is_named_by(digest, binding.kind, binding.id) for digest in digests):
        check_id(keys, binding, plain)
    return plain


def check_small(keys: IdKeys, entry: Entry, kind: int, chunk_id: bytes, data: Buffer) -> None:
    """A file whose content lies in one chunk. IntegrityError (ContentDamaged)."""
    if _is_named_by(entry.digest, kind, chunk_id):
        return
    if len(data) == entry.size:
        digest = chunk_name(keys, ChunkKind.DATA, data)[:32]
    else:
        hasher = content_hasher(keys)
        hasher.update(data)
        digest = hasher.digest()
    if digest != entry.digest:
        raise _damaged()


def has_content(fd: int, keys: IdKeys, entry: Entry) -> bool:
    """Whether an open file of the entry's size holds what the entry says: the data of its extents
    by the digest, and nothing but zeros between them."""
    hasher, at = content_hasher(keys), 0
    for _, _, start, length in entry.extents:
        if not _is_zero(fd, at, start):
            return False
        at = start + length
        for data in _blocks(fd, start, at):
            hasher.update(data)
    digest = entry.digest or content_hasher(keys).digest()
    return _is_zero(fd, at, entry.size) and hasher.digest() == digest


def _blocks(fd: int, at: int, end: int) -> Iterator[bytes]:
    while at < end and (data := os.pread(fd, min(BLOCK, end - at), at)):
        yield data
        at += len(data)


def _is_zero(fd: int, at: int, end: int) -> bool:
    return all(data.count(0) == len(data) for data in _blocks(fd, at, end))


def _damaged() -> IntegrityError:
    return IntegrityError("its content is not what its digest says", code="ContentDamaged")


class EarlyRoom:
    """How many bytes of pieces that came before their turn all files of a restore may hold."""

    def __init__(self, size: int = EARLY_BYTES) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


class GrowingFile:
    """A file of several extents, whose pieces come in any order and from any thread. It takes its
    name when the last piece is written and the digest holds. What is no extent stays a hole.
    Pieces that come early wait in memory for the digest while ``room`` allows; others are read
    back."""

    def __init__(
        self,
        writer: EntryWriter,
        keys: IdKeys,
        folder: Folder,
        name: bytes,
        entry: Entry,
        room: EarlyRoom,
    ) -> None:
        self._writer = writer
        self._keys = keys
        self._folder = folder
        self._name = name
        self._entry = entry
        self._fd = -1
        self._temporary = b""
        self._lock = threading.Lock()
        self._left = len(entry.extents)
        self._writing = 0
        self._given_up = False
        self._hasher = content_hasher(keys)
        self._hashed = 0  # extents hashed so far, in order
        self._hashed_to = 0  # [bytes]
        self._room = room
        self._early: dict[int, memoryview | None] = {}

    def put(self, number: int, data: memoryview) -> bool:
        """Write extent ``number``; True when that completed the file. OSError, TargetError,
        IntegrityError (ContentDamaged)."""
        with self._lock:
            if self._dead():
                return False
            if self._fd < 0:
                self._begin()
            fd = self._fd
            self._writing += 1
        try:
            self._writer.bulk.write(fd, data, self._entry.extents[number][2])
        except OSError as error:
            self.give_up()
            fail(error, self._folder.path_of(self._name))
        finally:
            with self._lock:
                self._writing -= 1
        with self._lock:
            if self._dead():
                self._close_given_up()
                return False
            self._left -= 1
            self._hash(number, data)
            if self._left:
                return False
        self._finish()
        return True

    def _dead(self) -> bool:
        return self._given_up

    def _begin(self) -> None:
        self._fd, self._temporary = self._writer.begin_file(self._folder, self._entry)
        os.ftruncate(self._fd, self._entry.size)

    def _hash(self, number: int, data: memoryview) -> None:
        """Take a piece into the digest when its turn is there."""
        if number != self._hashed:
            self._early[number] = data if self._room.take(len(data)) else None
            return
        self._hash_piece(data)
        while self._hashed in self._early:
            piece = self._early.pop(self._hashed)
            _, _, at, length = self._entry.extents[self._hashed]
            self._hash_piece(os.pread(self._fd, length, at) if piece is None else piece)
            if piece is not None:
                self._room.give_back(length)

    def _hash_piece(self, data: Buffer) -> None:
        _, _, at, length = self._entry.extents[self._hashed]
        self._hasher.update(data)
        self._hashed += 1
        self._hashed_to = at + length

    def _finish(self) -> None:
        if self._entry.digest and self._hasher.digest() != self._entry.digest:
            self.give_up()
            raise _damaged()
        fd, self._fd = self._fd, -1
        self._writer.finish_file(fd, self._folder, self._temporary, self._name, self._entry)

    def give_up(self) -> None:
        """The file will not become whole: close and remove what there is of it."""
        with self._lock:
            self._given_up = True
            self._close_given_up()

    def _close_given_up(self) -> None:
        if self._fd >= 0 and not self._writing:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1
            self._room.give_back(sum([len(one) for one in self._early.values() if one is not None]))
            self._early.clear()
            self._writer.drop(self._folder, self._temporary)
