"""Requests in flight on one connection: sent by whoever calls, answered by one receiving thread.

Callers never receive and the receiver never sends, so neither side can wait for the other with
full buffers. A caller's buffer is its own again when its call is over, however it ended: a
connection that fails is ended first, and its receiver with it.

``_lock`` guards the table of requests, the counts of flights and the failure; ``_sending`` keeps
messages whole. ``_lock`` may be taken while holding ``_sending``, never the other way round.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice

from holdfast.nbd.failures import NbdError, NbdLostError, NbdProtocolError
from holdfast.nbd.replies import Pending, ReplyReader
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import Command, Request, WireError

LOST = "see whether the program that serves the disk still runs, and start again"


class _Flight:
    """The requests of one call that are not answered yet."""

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.outstanding = 0
        self.enough = 0  # the caller is woken when no more than these are outstanding
        self.answered = 0
        self.failed: Pending | None = None


class Connection:
    """Any number of threads may ``run`` requests. ``seconds``: how long a request may stay
    unanswered. ``where`` names server and export in errors."""

    def __init__(self, stream: Stream, replies: ReplyReader, where: str, seconds: float) -> None:
        self._stream = stream
        self._replies = replies
        self._where = where
        self._seconds = seconds
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._cookie = 0
        self._flying: dict[int, Pending] = {}
        self._flights: dict[int, _Flight] = {}
        self._failure: Callable[[], NbdError] | None = None
        self._receiver = threading.Thread(target=self._receive, name="nbd-receiver", daemon=True)
        self._receiver.start()

    def run(self, requests: Iterable[Pending], depth: int) -> Pending | None:
        """Send all requests, at most ``depth`` unanswered at a time, and wait for the answers.
        The first one the server failed; later ones are not sent. NbdError when the connection
        fails: then no buffer is written any more."""
        flight = _Flight(self._lock)
        waiting = iter(requests)
        try:
            while batch := self._batch(waiting, flight, depth):
                self._send(batch, flight)
                self._wait(flight, depth // 2)
            self._wait(flight, 0)
        except (OSError, WireError) as error:
            raise self._end(self._reason(error)) from error
        except BaseException as error:  # an interrupt as well: the buffer is the caller's again
            self._end(self._reason(error))
            raise
        return flight.failed

    def _batch(self, waiting: Iterator[Pending], flight: _Flight, depth: int) -> list[Pending]:
        if flight.failed is not None:
            return []
        return list(islice(waiting, depth - flight.outstanding))

    def _send(self, batch: list[Pending], flight: _Flight) -> None:
        parts: list[bytes | memoryview] = []
        with self._sending:
            with self._lock:
                if self._failure is not None:
                    raise self._failure()
                for one in batch:
                    self._cookie += 1
                    self._flying[self._cookie] = one
                    self._flights[self._cookie] = flight
                    flight.outstanding += 1
                    head = (one.flags, one.command, self._cookie, one.offset, one.length)
                    parts.append(Request(*head).pack())
                    if one.command == Command.WRITE and one.view is not None:
                        parts.append(one.view)
            self._stream.send(*parts)

    def _wait(self, flight: _Flight, enough: int) -> None:
        """Until no more than ``enough`` requests of the flight are outstanding."""
        with self._lock:
            flight.enough = enough
            while flight.outstanding > enough:
                if self._failure is not None:
                    raise self._failure()
                before = flight.answered
                if not flight.changed.wait(self._seconds) and flight.answered == before:
                    raise TimeoutError(f"no answer within {self._seconds:g} s")

    def _receive(self) -> None:
        """The receiving thread."""
        try:
            while True:
                cookie = self._replies.next(self._flying)
                if cookie is not None:
                    self._answered(cookie)
        except (OSError, WireError) as error:
            self._end(self._reason(error))
        except BaseException as error:  # a defect of ours must not leave callers waiting
            self._end(self._reason(error))
            raise

    def _answered(self, cookie: int) -> None:
        with self._lock:
            one, flight = self._flying.pop(cookie), self._flights.pop(cookie)
            flight.outstanding -= 1
            flight.answered += 1
            if one.failure is not None and flight.failed is None:
                flight.failed = one
            if flight.outstanding <= flight.enough:
                flight.changed.notify()

    def _end(self, reason: Callable[[], NbdError]) -> NbdError:
        """Fail everything, once; when this returns to a caller, the receiver has stopped. The
        first failure there was."""
        with self._lock:
            first = self._failure = self._failure or reason
        self._stream.end()
        if threading.current_thread() is not self._receiver:
            self._receiver.join()
        with self._lock:
            for flight in self._flights.values():
                flight.changed.notify_all()
        return first()

    def _reason(self, error: BaseException) -> Callable[[], NbdError]:
        return lambda: _lost(self._where, error)

    def close(self) -> None:
        """Say good-bye and end. Calls still waiting fail. Idempotent."""
        reason = self._reason(ConnectionAbortedError("it was closed on this side"))
        with self._lock:
            in_order, self._failure = self._failure is None, self._failure or reason
        if in_order and self._sending.acquire(timeout=1.0):
            with suppress(OSError):  # it is ending anyway
                self._stream.send(Request(0, Command.DISC, 0, 0, 0).pack())
            self._sending.release()
        self._end(reason)
        with self._sending:  # nobody uses the socket any more
            self._stream.close()


def _lost(where: str, error: BaseException) -> NbdError:
    if isinstance(error, NbdError):
        return error
    if isinstance(error, WireError):
        return NbdProtocolError(
            f"{where} breaks the NBD protocol: {error}",
            code="NbdProtocolBroken",
            hint="the connection was given up; check which program listens there",
        )
    if isinstance(error, TimeoutError):
        return NbdLostError(f"{where} fell silent: {error}", code="NbdTimeout", hint=LOST)
    return NbdLostError(
        f"the connection to {where} was lost: {error}", code="NbdConnectionLost", hint=LOST
    )
