"""One client of the server after the handshake: its requests, answered by a few threads.

Each thread receives a request, lets the next thread receive, answers, and queues again. So no more
requests are held than there are threads, each with one buffer; a client that sends more waits, and
one that does not take its answers holds nobody up but itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from holdfast.nbd import wire
from holdfast.nbd.answers import PIECE_BYTES, Answers
from holdfast.nbd.stream import EndOfStreamError, Stream
from holdfast.nbd.wire import Command, Request, WireError

log = logging.getLogger("holdfast.nbd")
THREADS = 8


class Session:
    """``run`` it in a thread of its own. ``on_end`` is called when the last of its threads is
    through; the stream is closed then. ``name`` is the export's, for the log."""

    def __init__(
        self,
        stream: Stream,
        answers: Answers,
        name: str,
        on_end: Callable[[], None],
        threads: int = THREADS,
    ) -> None:
        self._stream = stream
        self._answers = answers
        self._name = name
        self._on_end = on_end
        self._threads = threads
        self._receiving = threading.Lock()
        self._counts = threading.Lock()  # guards the next two
        self._crew = 1
        self._idle = 1
        self._over = False

    def run(self) -> None:
        """Answer requests until the client leaves or the stream is ended."""
        buffer = memoryview(bytearray(PIECE_BYTES))
        try:
            while (request := self._next(buffer)) is not None:
                self._answers.answer(request, buffer)
                with self._counts:
                    self._idle += 1
        except (OSError, WireError) as error:
            self._over = True
            if not (isinstance(error, EndOfStreamError) and error.clean):
                log.info("a client of '%s' was cut off: %s", self._name, error)
                self._stream.end()
        except BaseException:  # a defect of ours must not leave the client waiting
            self._stream.end()
            raise
        finally:
            self._leave()

    def finish(self) -> None:
        """Take no more requests; those taken are answered. From any thread."""
        self._over = True
        self._stream.end_receiving()

    def cut(self) -> None:
        """End at once. From any thread."""
        self._over = True
        self._stream.end()

    def _leave(self) -> None:
        self._over = True
        with self._counts:
            self._crew -= 1
            last = self._crew == 0
        if last:
            self._stream.close()
            self._on_end()

    def _next(self, buffer: memoryview) -> Request | None:
        with self._receiving:
            if self._over:
                return None
            request = wire.parse_request(self._stream.receive(wire.REQUEST.size))
            if request.command == Command.WRITE:  # refused, but its data is on the way
                if request.length > wire.MAX_REQUEST:
                    raise WireError(f"a write of {request.length:,} bytes")
                self._stream.discard(request.length, buffer)
            if request.command == Command.DISC:
                self._over = True
                return None
            self._call_help()
            return request

    def _call_help(self) -> None:
        """Somebody must wait for the next request while this one is answered."""
        with self._counts:
            self._idle -= 1
            if self._idle or self._crew == self._threads:
                return
            self._crew += 1
            self._idle += 1
        try:
            threading.Thread(target=self.run, name="nbd-session", daemon=True).start()
        except RuntimeError:  # the system gives no more threads: those there are go on
            with self._counts:
                self._crew -= 1
                self._idle -= 1
