"""A process of its own that reads small files for the agent, into memory both share.

Reading a small file is a handful of short system calls around little Python; in one process each
of them hands the interpreter from thread to thread, and half the machine waits. The child gets
lists of files over a pipe and answers with what it put where; file content never passes a pipe.
"""

from __future__ import annotations

import mmap
import os
import queue
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

import msgspec

from holdfast.workloads.files import child
from holdfast.workloads.files.child import Child, ChildLostError
from holdfast.workloads.files.small_files import BUFFER_BYTES, BundleReader, Reading, Wanted

SLOT_BYTES = -(-BUFFER_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
SLOTS = 3
_READING = msgspec.msgpack.Decoder(Reading)


class Hello(msgspec.Struct, array_like=True):
    """The first message: what a BundleReader is made of, and the number of buffers."""

    base: bytes
    data_key: bytes
    bundle_key: bytes
    slots: int


class Order(msgspec.Struct, array_like=True):
    """Read ``wanted`` into buffer ``slot``."""

    slot: int
    wanted: list[Wanted]


class ReaderProcess:
    """Reads for several threads at a time; requests are answered in the order they were made, so
    that the child always has the next one at hand."""

    def __init__(self, base: bytes, data_key: bytes, bundle_key: bytes) -> None:
        """OSError when no process or memory can be had."""
        handle = os.memfd_create("holdfast-reader")
        try:
            os.ftruncate(handle, SLOTS * SLOT_BYTES)
            self._memory = memoryview(mmap.mmap(handle, SLOTS * SLOT_BYTES))
            self._child = Child(__name__, str(handle), pass_fds=[handle])
        finally:
            os.close(handle)
        self._idle: queue.Queue[int] = queue.Queue()
        for slot in range(SLOTS):
            self._idle.put(slot)
        with suppress(ChildLostError):  # the first request will notice
            self._child.send(Hello(base, data_key, bundle_key, SLOTS))

    @contextmanager
    def read(self, wanted: Sequence[Wanted]) -> Iterator[tuple[memoryview, Reading]]:
        """(buffer, what is in it); the buffer is given back at the end. ChildLostError."""
        slot = self._idle.get()
        try:
            reading = self._exchange(Order(slot, list(wanted)))
            yield self._memory[slot * SLOT_BYTES : slot * SLOT_BYTES + BUFFER_BYTES], reading
        finally:
            self._idle.put(slot)

    def _exchange(self, order: Order) -> Reading:
        reading = _READING.decode(self._child.ask(order)())
        if reading.slot != order.slot:
            raise ChildLostError("it answered another question")
        return reading

    def close(self) -> None:
        """End the process; nobody may be reading."""
        self._child.close()


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """The child's life: orders in, answers out, until there are no more orders."""
    first = child.receive(orders)
    if first is None:
        return
    hello = msgspec.msgpack.decode(first, type=Hello)
    memory = memoryview(mmap.mmap(int(sys.argv[1]), hello.slots * SLOT_BYTES))
    reader = BundleReader(hello.base, hello.data_key, hello.bundle_key)
    decoder = msgspec.msgpack.Decoder(Order)
    while (data := child.receive(orders)) is not None:
        order = decoder.decode(data)
        start = order.slot * SLOT_BYTES
        reading = reader.read(memory[start : start + BUFFER_BYTES], order.wanted)
        reading.slot = order.slot
        child.send(answers, reading)


if __name__ == "__main__":
    child.run(serve)
