"""A process of its own that writes small files of a restore, from memory both share.

Like reading (``reader_process``), writing a small file is a handful of short system calls around
little Python. The child gets sealed frames in shared memory and, over a pipe, which files they
hold; it opens, checks and writes them, and answers with what went wrong. It reaches the target
through the agent's own descriptor and never follows a link. It has no credentials.
"""

from __future__ import annotations

import mmap
import os
import queue
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from holdfast.errors import IntegrityError, Retry, TargetError
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.vaultstore.ids import IdKeys
from holdfast.vaultstore.seal import FrameBinding
from holdfast.workloads.files import child
from holdfast.workloads.files.child import Child, ChildLostError
from holdfast.workloads.files.paths import Folder, TargetTree, folders_at_once
from holdfast.workloads.files.restore_content import check_small, open_for_files
from holdfast.workloads.files.restore_fetch import RUN_BYTES
from holdfast.workloads.files.restore_writer import PARTIAL, EntryWriter, Owners, open_umask

SLOT_BYTES = RUN_BYTES
SLOTS = 2
RELEASE_EVERY = 64  # folders opened before idle ones are closed
_FILE = int(EntryType.FILE)


class Hello(msgspec.Struct, array_like=True):
    """The first message. ``users`` and ``groups`` map owners to those of this machine; ``token``
    marks partial files of this restore."""

    users: Mapping[int, int]
    groups: Mapping[int, int]
    token: bytes
    keys: Mapping[int, bytes]


class SmallFile(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """A file whose content is ``length`` bytes at ``offset`` of a frame. ``folder``: index into the
    order's folders; ``name``: the one it gets."""

    folder: int
    name: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    digest: bytes
    offset: int
    length: int
    xattrs: dict[bytes, bytes] = {}


class SealedFrame(msgspec.Struct, array_like=True):
    """A frame at ``at`` of the buffer, and the files it holds."""

    at: int
    binding: FrameBinding
    key: bytes
    files: list[SmallFile]


class Order(msgspec.Struct, array_like=True):
    """Write the files of ``frames``, which lie in buffer ``slot``. ``folders``: relative to the
    target; they exist."""

    slot: int
    folders: list[bytes]
    frames: list[SealedFrame]


class Failure(msgspec.Struct, array_like=True):
    """File ``file`` of frame ``frame`` was not written. ``number``: errno; 0 when its content is
    damaged."""

    frame: int
    file: int
    number: int
    message: str


class Fatal(msgspec.Struct, array_like=True):
    """The target is unusable: the parts of a TargetError."""

    message: str
    code: str
    hint: str
    retry: Retry


class Answer(msgspec.Struct, array_like=True):
    """``damaged``: frames that could not be opened. ``reports``: findings (code, path, message)."""

    slot: int
    damaged: list[int]
    failures: list[Failure]
    reports: list[tuple[str, bytes, str]]
    fatal: Fatal | None = None


class WriterProcess:
    """Writes for several threads; orders are carried out one after the other."""

    def __init__(
        self, top: int, owners: Owners, token: bytes, keys: IdKeys, held: Sequence[int] = ()
    ) -> None:
        """``top``: descriptor of the target; ``held``: further ones the process keeps open while it
        lives. OSError when no process or memory can be had."""
        handle = os.memfd_create("holdfast-writer")
        try:
            os.ftruncate(handle, SLOTS * SLOT_BYTES)
            self._memory = memoryview(mmap.mmap(handle, SLOTS * SLOT_BYTES))
            fds = [handle, top]
            self._child = Child(__name__, *[str(fd) for fd in fds], pass_fds=[*fds, *held])
        finally:
            os.close(handle)
        self._idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(SLOTS):
            self._idle.put(slot)
        self.partial_prefix = PARTIAL + token + b"-%d-" % self._child.pid
        hello = Hello(owners.users, owners.groups, token, dict(keys))
        with suppress(ChildLostError):  # the first order will notice
            self._child.send(hello)

    def free_slot(self) -> int | None:
        """A buffer, to be given back with ``free``; None when the child has enough to do."""
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return None

    def free(self, slot: int) -> None:
        self._idle.put(slot)

    def buffer(self, slot: int) -> memoryview:
        return self._memory[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]

    def order(self, order: Order) -> Callable[[], Answer]:
        """Have an order carried out; the result waits for its end. Both raise ChildLostError."""
        answer = self._child.ask(order)

        def wait() -> Answer:
            found = msgspec.msgpack.decode(answer(), type=Answer)
            if found.slot != order.slot:
                raise ChildLostError("it answered another order")
            return found

        return wait

    def kill(self) -> None:
        """End the process at once; those who wait for it get ChildLostError."""
        self._child.kill()

    def close(self) -> None:
        """End the process; nobody may be waiting for it."""
        self._child.close()


class OrderWriter:
    """The child's side: carries out one order at a time, and stops between two files when
    ``abandoned`` says that nobody wants them any more."""

    def __init__(self, target: TargetTree, hello: Hello, abandoned: Callable[[], bool]) -> None:
        self._target = target
        self._abandoned = abandoned
        self._keys = hello.keys
        self._reports: list[tuple[str, bytes, str]] = []
        owners = Owners(hello.users, hello.groups)
        self._writer = EntryWriter(owners, hello.token, lambda *one: self._reports.append(one))
        self._opened = 0

    def write(self, memory: memoryview, order: Order) -> Answer:
        """BrokenPipeError when the agent is gone."""
        answer = Answer(order.slot, [], [], [])
        self._reports = answer.reports
        try:
            for number, frame in enumerate(order.frames):
                self._frame(memory, order.folders, number, frame, answer)
        except TargetError as error:
            answer.fatal = Fatal(error.message, error.code, error.hint, error.retry)
        self._target.release_old()
        return answer

    def _frame(
        self,
        memory: memoryview,
        folders: list[bytes],
        number: int,
        frame: SealedFrame,
        answer: Answer,
    ) -> None:
        binding = frame.binding
        try:
            sealed = memory[frame.at : frame.at + binding.clen]
            digests = [file.digest for file in frame.files]
            plain = memoryview(open_for_files(self._keys, frame.key, binding, sealed, digests))
        except IntegrityError:
            answer.damaged.append(number)
            return
        folder, last = None, -1
        for index, file in enumerate(frame.files):
            if self._abandoned():
                raise BrokenPipeError  # another run may be at work by now
            try:
                if folder is None or file.folder != last:
                    folder, last = self._folder(folders[file.folder]), file.folder
                self._file(folder, file, binding, plain)
            except IntegrityError as error:
                answer.failures.append(Failure(number, index, 0, error.message))
            except OSError as error:
                why = error.strerror or str(error)
                answer.failures.append(Failure(number, index, error.errno or -1, why))

    def _folder(self, path: bytes) -> Folder:
        self._opened += 1
        if self._opened % RELEASE_EVERY == 0:
            self._target.release_old()
        return self._target.directory(path, create=False)

    def _file(
        self, folder: Folder, file: SmallFile, binding: FrameBinding, plain: memoryview
    ) -> None:
        data = plain[file.offset : file.offset + file.length]
        if len(data) != file.length or file.length > file.size:
            raise IntegrityError("its extents do not fit", code="ContentDamaged")
        entry = Entry(
            file.name, _FILE, file.mode, file.uid, file.gid, file.mtime_ns, file.size, file.digest
        )
        if file.xattrs:
            entry.xattrs = file.xattrs
        check_small(self._keys, entry, binding.kind, binding.id, data)
        self._writer.write_whole(folder, file.name, entry, data)


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """The child's life: orders in, answers out, until there are no more orders."""
    first = child.receive(orders)
    if first is None:
        return
    hello = msgspec.msgpack.decode(first, type=Hello)
    open_umask()
    memory = memoryview(mmap.mmap(int(sys.argv[1]), SLOTS * SLOT_BYTES))
    folders_at_once()
    target = TargetTree(Path(f"/proc/self/fd/{sys.argv[2]}"), read_only=True)
    writer = OrderWriter(target, hello, child.abandoned_when_closed(orders))
    decoder = msgspec.msgpack.Decoder(Order)
    while (data := child.receive(orders)) is not None:
        order = decoder.decode(data)
        start = order.slot * SLOT_BYTES
        child.send(answers, writer.write(memory[start : start + SLOT_BYTES], order))


if __name__ == "__main__":
    child.run(serve)
