"""Scanning a large tree in a process of its own, beside the agent's.

The walk begins here; when the tree turns out to be large, a child takes over what is left of it and
sends listings through a pipe, whose size bounds how far it runs ahead. Should the child be lost,
the walk goes on here, after the last directory that arrived.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import msgspec

from holdfast.workloads.files import child
from holdfast.workloads.files.child import Child, ChildLostError
from holdfast.workloads.files.listing import Batch, Listing, tree_order
from holdfast.workloads.files.scan import Report, Stack, TreeWalk
from holdfast.workloads.files.selection import compile_excludes

log = logging.getLogger(__name__)
LARGE_ENTRIES = 4_000  # from so many on a tree is worth a process of its own
BATCH_BYTES, BATCH_SECONDS = 32 * 1024, 0.5
LISTING_BYTES = 128  # what a listing weighs beside its entries
_BATCH = msgspec.msgpack.Decoder(Batch)


class Walk(msgspec.Struct, array_like=True):
    """What a TreeWalk is made of."""

    includes: list[bytes]
    exclude_globs: list[str]
    base: bytes
    started_ns: int
    stack: Stack | None

    def begin(self) -> TreeWalk:
        excludes = compile_excludes(self.exclude_globs)
        return TreeWalk(self.includes, excludes, self.base, self.started_ns, self.stack)


class Scanner:
    """Iterates over the listings of a tree. ``close`` it in any case."""

    def __init__(
        self,
        includes: Sequence[bytes],
        exclude_globs: Sequence[str],
        report: Report,
        *,
        base: bytes = b"",
        started_ns: int = 0,
        start: Callable[[], Child] | None = None,
    ) -> None:
        self._walk = Walk([*includes], [*exclude_globs], base, started_ns, None)
        self._report = report
        self._start = start or (lambda: Child(__name__))
        self._child: Child | None = None

    def __iter__(self) -> Iterator[Listing]:
        walk, seen = self._walk.begin(), 0
        for listing in walk:
            yield listing
            self._tell(walk)
            seen += listing.count
            if seen > LARGE_ENTRIES and walk.stack:
                break
        self._tell(walk)
        if walk.stack:
            self._walk.stack = [*walk.stack]
            yield from self._elsewhere(self._walk)

    def _tell(self, walk: TreeWalk) -> None:
        for finding in walk.take_findings():
            self._report(*finding)

    def _elsewhere(self, walk: Walk) -> Iterator[Listing]:
        last = b""
        try:
            self._child = self._start()
            self._child.send(walk)
            while (batch := _BATCH.decode(self._child.receive())).listings or batch.findings:
                for finding in batch.findings:
                    self._report(*finding)
                for listing in batch.listings:
                    yield listing
                    last = listing.path
        except (OSError, ChildLostError) as error:
            log.warning("the scanning process is lost (%s); the scan goes on without", error)
            yield from self._go_on(walk, last)

    def _go_on(self, walk: Walk, last: bytes) -> Iterator[Listing]:
        """What comes after directory ``last``; what was reported before may be reported again."""
        rest = walk.begin()
        for listing in rest:
            if not last or tree_order(listing.path) > tree_order(last):
                self._tell(rest)
                yield listing
        self._tell(rest)

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """The child's life: one walk in, its batches out, an empty one at the end."""
    order = child.receive(orders)
    if order is None:
        return
    walk = msgspec.msgpack.decode(order, type=Walk).begin()
    held: list[Listing] = []
    size, sent_at = 0, time.monotonic()
    for listing in walk:
        held.append(listing)
        size += len(listing.rows) + len(listing.names) + len(listing.path) + LISTING_BYTES
        if size >= BATCH_BYTES or time.monotonic() - sent_at > BATCH_SECONDS:
            child.send(answers, Batch(held, walk.take_findings()))
            held, size, sent_at = [], 0, time.monotonic()
    last = Batch(held, walk.take_findings())
    if last.listings or last.findings:
        child.send(answers, last)
    child.send(answers, Batch([], []))


if __name__ == "__main__":
    child.run(serve)
