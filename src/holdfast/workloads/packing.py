"""From chunks to uploaded packs: two buffers per class, sealing in parallel, sending in order.

A chunk's place is reserved under a lock, its frame is sealed outside it. A full pack is finished
and sent by a background thread while the other buffer fills; when both are busy, writers wait.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

from holdfast.errors import CancelledError
from holdfast.ports.clock import Random
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.ids import ChunkKind
from holdfast.vaultstore.pack import PackBuilder, PackClass, SealedPack
from holdfast.vaultstore.seal import Compressor
from holdfast.workloads.transport import BackupTransport

_PAGE_KINDS = frozenset({ChunkKind.FILE_PAGE, ChunkKind.DISK_PAGE, ChunkKind.ROOT})


SETTLE_SECONDS, SETTLE_BYTES = 600.0, 32 * 1024**3
REREAD_SECONDS = 1.0
STRETCH_SECONDS = 10.0


class Throttle:
    """Bytes per second for everything that is sent; ``rate`` is asked again every second, so that
    work hours and changed settings count at once. None is no limit."""

    def __init__(self, rate: Callable[[], int | None], wait: Callable[[float], object]) -> None:
        self._rate = rate
        self._wait = wait

    def spend(self, count: int) -> float:
        """Wait as long as sending ``count`` bytes may take; the seconds waited."""
        left, waited = float(count), 0.0
        while left > 0 and (rate := self._rate()):
            pause = min(left / rate, REREAD_SECONDS)
            self._wait(pause)
            left -= pause * rate
            waited += pause
        return waited


class _PackPace:
    """Waits while a pack is sent, so that the network is used evenly; but no longer than
    ``STRETCH_SECONDS``, because the server keeps a place for each pack under way. What is left is
    waited for between packs."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._seconds = 0.0
        self.count = 0

    def __call__(self, count: int) -> None:
        if self._seconds < STRETCH_SECONDS:
            self._seconds += self._throttle.spend(count)
            self.count += count


class Uploader:
    """Sends finished packs from one thread; keeps their receipts until they are taken, or settled
    here: every ``settle_seconds``, in the middle of a long file or disk too."""

    def __init__(
        self, transport: BackupTransport, throttle: Throttle, settle_seconds: float
    ) -> None:
        self._transport = transport
        self._throttle = throttle
        self._settle_seconds = settle_seconds
        self._settled_at = time.monotonic()
        self._queue: queue.Queue[tuple[SealedPack, queue.Queue[PackBuilder], PackBuilder] | None]
        self._queue = queue.Queue(maxsize=2)
        self._lock = threading.Lock()
        self._receipts: list[bytes] = []
        self._error: BaseException | None = None
        self.sent_bytes = 0
        self._unsettled_bytes = 0
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
        self._thread.start()

    def send(self, pack: SealedPack, idle: queue.Queue[PackBuilder], builder: PackBuilder) -> None:
        """Send ``pack``; its ``builder`` goes back to ``idle`` afterwards."""
        self.check()
        self._queue.put((pack, idle, builder))

    def check(self) -> None:
        """Raise what the sending thread met."""
        if self._error is not None:
            raise self._error

    def take_receipts(self) -> list[bytes]:
        with self._lock:
            taken, self._receipts = self._receipts, []
            self._unsettled_bytes = 0
        return taken

    def settle(self) -> None:
        """Make what was sent so far findable by later backups."""
        if receipts := self.take_receipts():
            self._transport.checkpoint(receipts)
        self._settled_at = time.monotonic()

    def drain(self) -> None:
        """Wait until everything given was sent."""
        self._queue.join()
        self.check()

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            pack, idle, builder = work
            try:
                if self._error is None:
                    self._send(pack)
            except BaseException as error:  # noqa: BLE001 - handed to the caller's next call
                self._error = error
            finally:
                idle.put(builder)
                self._queue.task_done()
        self._queue.task_done()

    def _send(self, pack: SealedPack) -> None:
        pace = _PackPace(self._throttle)
        receipt = self._transport.put_pack(pack.pack_id, pack.data, pace)
        with self._lock:
            self._receipts.append(receipt)
            self.sent_bytes += len(pack.data)
            self._unsettled_bytes += len(pack.data)
        late = time.monotonic() - self._settled_at > self._settle_seconds
        if late or self._unsettled_bytes > SETTLE_BYTES:
            self.settle()
        self._throttle.spend(len(pack.data) - pace.count)


class _Lane:
    """The packs of one class. Pages are few: one buffer serves them."""

    def __init__(
        self, transport: BackupTransport, kind: PackClass, up: Uploader, rng: Random
    ) -> None:
        self._transport = transport
        self._class = kind
        self._uploader = up
        self._rng = rng
        self._lock = threading.Lock()
        self._idle: queue.Queue[PackBuilder] = queue.Queue()
        self._made = 0
        self._most = 1 if kind is PackClass.PAGES else 2
        self._current: PackBuilder | None = None

    def add(self, kind: int, name: bytes, ulen: int, codec: int, body: Buffer) -> None:
        with self._lock:
            builder = self._current or self._begin()
            slot = builder.reserve(kind, name, ulen, len(body), codec)
            if slot is None:
                self._finish()
                builder = self._begin()
                slot = builder.reserve(kind, name, ulen, len(body), codec)
            if slot is None:
                raise AssertionError("a fresh pack takes any chunk")
        builder.seal(slot, body)

    def flush(self) -> None:
        with self._lock:
            if self._current is not None and self._current.frames:
                self._finish()

    def _begin(self) -> PackBuilder:
        if self._idle.empty() and self._made < self._most:
            builder = PackBuilder(self._transport.grant, self._class)
            self._made += 1
        else:
            builder = self._idle.get()
        try:
            self._uploader.check()
            builder.begin(self._rng.token(16))
        except BaseException:
            self._idle.put(builder)  # others wait for it, to meet the same
            raise
        self._current = builder
        return builder

    def _finish(self) -> None:
        builder, self._current = self._current, None
        if builder is None:
            return
        try:
            self._uploader.send(builder.finish(), self._idle, builder)
        except BaseException:
            self._idle.put(builder)
            raise


class ChunkWriter:
    """Stores chunks once: known ones are skipped, others compressed, sealed and sent.

    ``known`` ids are those of the parent's pages and of what this session sent. It forgets the
    older half beyond ``MAX_KNOWN``; a forgotten chunk is asked for again, never lost. ``content``:
    the class of the packs that hold what is no page.
    """

    MAX_KNOWN = 1_000_000

    def __init__(
        self,
        transport: BackupTransport,
        rng: Random,
        throttle: Throttle,
        content: PackClass = PackClass.FILES,
        *,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        grant = transport.grant
        self._transport = transport
        self._compressor = Compressor(grant.zstd_level)
        self._uploader = Uploader(transport, throttle, settle_seconds)
        self._content = _Lane(transport, content, self._uploader, rng)
        self._pages = _Lane(transport, PackClass.PAGES, self._uploader, rng)
        self._known: set[bytes] = set()
        self._older: set[bytes] = set()
        self._asks = not grant.container_is_empty
        self._lock = threading.Lock()

    @property
    def sent_bytes(self) -> int:
        return self._uploader.sent_bytes

    def store(self, kind: int, chunks: Sequence[tuple[bytes, Buffer]]) -> None:
        """Store (48-byte name, content) pairs of one kind; one presence question for all."""
        lane = self._pages if kind in _PAGE_KINDS else self._content
        for name, data in self._absent(chunks):
            codec, body = self._compressor.compress(data)
            lane.add(kind, name, len(data), codec, body)

    def _absent(self, chunks: Sequence[tuple[bytes, Buffer]]) -> list[tuple[bytes, Buffer]]:
        fresh: list[tuple[bytes, Buffer]] = []
        with self._lock:
            for name, data in chunks:
                key = name[:32]
                if key not in self._known and key not in self._older:
                    self._known.add(key)
                    fresh.append((name, data))
            if len(self._known) > self.MAX_KNOWN:
                self._known, self._older = set(), self._known
        if not fresh or not self._asks:
            return fresh
        present = self._transport.lookup(b"".join(name for name, _ in fresh))
        return [pair for pair, there in zip(fresh, present, strict=True) if not there]

    def settle(self) -> None:
        """Make what was sent so far findable by later backups."""
        self._uploader.settle()

    def finish(self) -> list[bytes]:
        """Send what is left; the receipts not yet settled."""
        self._content.flush()
        self._pages.flush()
        self._uploader.drain()
        return self._uploader.take_receipts()

    def stop(self) -> None:
        """End the sending thread; call in every case."""
        self._uploader.stop()


def stop_if(cancelled: Callable[[], bool]) -> None:
    """CancelledError when the user asked to stop."""
    if cancelled():
        raise CancelledError("the job was cancelled")
