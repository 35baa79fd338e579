"""The content of one window's files: which chunks they need, and writing each where it belongs.

Each chunk is fetched once and written to all files that need it. Frames that hold nothing but whole
small files go to the writer process when it has room; the rest is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from holdfast.errors import IntegrityError, ObjectMissingError, TargetError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.files.child import ChildLostError
from holdfast.workloads.files.restore_content import GrowingFile, check_small, open_for_files
from holdfast.workloads.files.restore_context import Context, RestoredFile
from holdfast.workloads.files.restore_fetch import LOCATE_BATCH, binding_of
from holdfast.workloads.files.writer_process import (
    SLOT_BYTES,
    Answer,
    Order,
    SealedFrame,
    SmallFile,
    WriterProcess,
)

Sealed = tuple[FrameLocation, memoryview]
Needs = list[tuple[RestoredFile, int]]
WORTH_FILES = 16


@dataclass(slots=True)
class _Done:
    """What one read completed."""

    files: int = 0
    size: int = 0

    def add(self, file: RestoredFile) -> None:
        self.files += 1
        self.size += file.entry.size


@dataclass(slots=True)
class _HandedOver:
    """Frames the writer process works on, and what needs them."""

    process: WriterProcess
    slot: int
    frames: list[Sealed]
    needs: list[Needs]
    answer: Callable[[], Answer]


class WindowPieces:
    """``want``, ``runs`` and ``drop`` belong to one thread; ``read`` may run in several."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wanted: dict[bytes, Needs] = {}
        self._growing: list[GrowingFile] = []

    def want(self, file: RestoredFile) -> None:
        """Note the chunks of a file; one without any is written here."""
        entry, context = file.entry, self._context
        extents = entry.extents
        if not extents:
            context.writer.write_whole(file.folder, file.name, entry, b"")
            context.progress.add(1, entry.size)
            return
        if len(extents) > 1 or extents[0][2]:
            file.growing = GrowingFile(
                context.writer, context.keys, file.folder, file.name, entry, context.early
            )
            self._growing.append(file.growing)
        for number, extent in enumerate(extents):
            self._wanted.setdefault(extent[0], []).append((file, number))

    def runs(self) -> Iterator[list[FrameLocation]]:
        """Frames to read, pack by pack; located in batches while the caller goes on."""
        source = self._context.source
        names = iter(list(self._wanted))
        while batch := list(islice(names, 4 * LOCATE_BATCH)):
            yield from source.runs(source.locate(batch))

    def read(self, run: list[FrameLocation]) -> None:
        """Fetch frames and write what needs them. TargetError, CancelledError, StoreError."""
        context = self._context
        if context.cancelled():
            return
        done = _Done()

        def take(row: FrameLocation, plain: Buffer) -> None:
            self._take(row, memoryview(plain), done)

        try:
            sealed = context.source.sealed(run)
            if sealed is None:
                context.source.read_run(run, take)
            else:
                self._write_sealed(sealed, take, done)
        except (IntegrityError, ObjectMissingError):
            self._read_singly(run, take)
        context.progress.add(done.files, done.size, sum([row.clen for row in run]))

    def _read_singly(
        self, run: list[FrameLocation], take: Callable[[FrameLocation, Buffer], None]
    ) -> None:
        """Something in the run is damaged: save what can be saved, name what cannot."""
        for row in run:
            if row.id not in self._wanted:
                continue
            try:
                self._context.source.read_run([row], take)
            except (IntegrityError, ObjectMissingError) as error:
                for file, _ in self._wanted.pop(row.id, ()):
                    self._damaged(file, error.message)

    # here

    def _write_sealed(
        self,
        sealed: list[Sealed],
        take: Callable[[FrameLocation, Buffer], None],
        done: _Done,
    ) -> None:
        handed = self._hand_over(sealed)
        try:
            for row, data in sealed:
                if row.id in self._wanted:
                    take(row, self._open(row, data))
        finally:
            left = [] if handed is None else self._settle(handed, done)
        for row, data in left:
            take(row, self._open(row, data))

    def _open(self, row: FrameLocation, sealed: memoryview) -> Buffer:
        digests = [file.entry.digest for file, _ in self._wanted[row.id]]
        return open_for_files(self._context.keys, row.key, binding_of(row), sealed, digests)

    def _take(self, row: FrameLocation, plain: memoryview, done: _Done) -> None:
        for file, number in self._wanted.pop(row.id, ()):
            if file.failed:
                continue
            _, offset, _, length = file.entry.extents[number]
            try:
                if self._write(file, number, row, plain[offset : offset + length]):
                    done.add(file)
            except IntegrityError as error:
                self._damaged(file, error.message)
            except OSError as error:
                file.failed = True
                self._context.failed(file.path, error)

    def _write(self, file: RestoredFile, number: int, row: FrameLocation, data: memoryview) -> bool:
        entry, context = file.entry, self._context
        _, _, at, length = entry.extents[number]
        if len(data) != length or at + length > entry.size:
            raise IntegrityError("its extents do not fit", code="ContentDamaged")
        if file.growing is not None:
            return file.growing.put(number, data)
        check_small(context.keys, entry, row.kind, row.id, data)
        context.writer.write_whole(file.folder, file.name, entry, data)
        return True

    def _damaged(self, file: RestoredFile, why: str) -> None:
        if not file.failed:
            file.failed = True
            self._context.report("ContentDamaged", file.path, why)
        if file.growing is not None:
            file.growing.give_up()

    # in the writer process

    def _hand_over(self, sealed: list[Sealed]) -> _HandedOver | None:
        """Give frames of whole small files to the writer process, if it is there and idle."""
        simple = [one for one in sealed if _is_simple(self._wanted.get(one[0].id, ()))]
        count = sum([len(self._wanted[row.id]) for row, _ in simple])
        size = sum([len(data) for _, data in simple])
        if count < WORTH_FILES or size > SLOT_BYTES:
            return None
        process = self._context.helper.for_files(count)
        slot = None if process is None else process.free_slot()
        if process is None or slot is None:
            return None
        needs = [self._wanted.pop(row.id) for row, _ in simple]
        try:
            order = _fill(process.buffer(slot), slot, simple, needs)
            return _HandedOver(process, slot, simple, needs, process.order(order))
        except ChildLostError as error:
            process.free(slot)
            self._take_back(process, simple, needs, error)
            return None

    def _settle(self, handed: _HandedOver, done: _Done) -> list[Sealed]:
        """Wait for the writer process; the frames that are to be written here after all."""
        try:
            answer = handed.answer()
        except ChildLostError as error:
            self._take_back(handed.process, handed.frames, handed.needs, error)
            return handed.frames
        finally:
            handed.process.free(handed.slot)
        self._note(handed, answer, done)
        damaged = [handed.frames[number] for number in answer.damaged]
        for number in answer.damaged:
            self._wanted[handed.frames[number][0].id] = handed.needs[number]
        return damaged

    def _note(self, handed: _HandedOver, answer: Answer, done: _Done) -> None:
        for report in answer.reports:
            self._context.report(*report)
        for failure in answer.failures:
            file = handed.needs[failure.frame][failure.file][0]
            if failure.number == 0:
                self._damaged(file, failure.message)
                continue
            file.failed = True
            self._context.failed(file.path, OSError(failure.number, failure.message))
        if answer.fatal is not None:
            fatal = answer.fatal
            raise TargetError(fatal.message, code=fatal.code, hint=fatal.hint, retry=fatal.retry)
        opened = set(range(len(handed.needs))) - set(answer.damaged)
        for number in opened:
            for file, _ in handed.needs[number]:
                if not file.failed:
                    done.add(file)

    def _take_back(
        self, process: WriterProcess, frames: list[Sealed], needs: list[Needs], why: object
    ) -> None:
        """The process is lost: its frames are wanted again, its half-written files go."""
        self._context.helper.lost(why)
        for (row, _), wanting in zip(frames, needs, strict=True):
            self._wanted[row.id] = wanting
        for folder in {id(file.folder): file.folder for one in needs for file, _ in one}.values():
            self._context.writer.remove_partials(folder, process.partial_prefix)

    # the end

    def drop(self) -> None:
        """Let go of files that did not become whole."""
        for growing in self._growing:
            growing.give_up()
        self._growing = []


def _is_simple(needs: Needs | tuple[()]) -> bool:
    """Whether a chunk is needed, and by whole small files only."""
    return bool(needs) and all(file.growing is None for file, _ in needs)


def _fill(buffer: memoryview, slot: int, frames: list[Sealed], needs: list[Needs]) -> Order:
    """Copy frames into a buffer; the order that goes with them."""
    folders: dict[bytes, int] = {}
    order, at = Order(slot, [], []), 0
    for (row, data), wanting in zip(frames, needs, strict=True):
        buffer[at : at + len(data)] = data
        files = [_small(file, folders) for file, _ in wanting]
        order.frames.append(SealedFrame(at, binding_of(row), row.key, files))
        at += len(data)
    order.folders = list(folders)
    return order


def _small(file: RestoredFile, folders: dict[bytes, int]) -> SmallFile:
    entry = file.entry
    _, offset, _, length = entry.extents[0]
    return SmallFile(
        folders.setdefault(file.folder.path, len(folders)),
        file.name,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime_ns,
        entry.size,
        entry.digest,
        offset,
        length,
        entry.xattrs,
    )
