"""A connection to QEMU's monitor (QMP): calls that block, on any thread.

qemu.qmp is asyncio; each connection has one thread that runs its loop. QEMU serves one client per
monitor socket: a second one gets no greeting, which is told as such.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as LateError
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError

from holdfast.errors import SourceError

CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
KEPT_EVENTS = 1000
SOCKET_PATH_BYTES = 107  # what the kernel takes
FULL = (errno.EAGAIN, errno.EINVAL, errno.ENOTCONN)  # a full backlog, and what asyncio makes of it
BROKEN = (QMPError, OSError, EOFError, CancelledError)  # what a lost peer shows as

T = TypeVar("T")


class QmpRefusedError(SourceError):
    """QEMU answered with an error; the connection goes on. ``said``: QEMU's words."""

    code = "HypervisorRefused"

    def __init__(self, command: str, said: str) -> None:
        super().__init__(
            f"QEMU refused {command}: {said}", hint="look at the machine's state and its log"
        )
        self.said = said


class MachineLostError(SourceError):
    """The connection broke: QEMU ended, or did not answer in time."""

    code = "MachineLost"


class NobodyListensError(SourceError):
    """There is no socket, or no process listens on it: QEMU does not run. Nothing else means that:
    a monitor that is busy or forbidden may be the one of a running machine."""

    code = "MonitorUnreachable"


class QmpConnection:
    """Use it as a context manager, or ``close`` it. NobodyListensError, or another SourceError
    (MonitorUnreachable, MonitorBusy), when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if len(str(path).encode()) > SOCKET_PATH_BYTES:
            raise _unreachable(path, f"its path is longer than {SOCKET_PATH_BYTES} bytes")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._closed = False
        try:
            self._client: QMPClient = self._call(self._connect(), CONNECT_SECONDS + 1)
        except BaseException:
            self._end_loop()
            raise

    async def _connect(self) -> QMPClient:
        client = QMPClient("holdfast")
        client.logger.disabled = True
        try:
            await asyncio.wait_for(client.connect(str(self._path)), CONNECT_SECONDS)
        except TimeoutError as error:
            raise _busy(self._path) from error
        except (ConnectError, OSError) as error:
            raise _not_opened(self._path, error) from error
        self._watching = asyncio.create_task(self._watch(client))
        return client

    async def _watch(self, client: QMPClient) -> None:
        async for event in client.events:
            self._events.append((str(event["event"]), dict(event.get("data") or {})))  # type: ignore[call-overload]
            del self._events[:-KEPT_EVENTS]

    def execute(self, command: str, /, *, timeout: float = CALL_SECONDS, **arguments: Any) -> Any:
        """What QEMU returns. Underscores in names become "-". QmpRefusedError, MachineLostError;
        after the latter nothing is known about the command's effect."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.call(command, named, timeout=timeout)

    def call(
        self, command: str, arguments: dict[str, Any], *, timeout: float = CALL_SECONDS
    ) -> Any:
        """As ``execute``, with arguments as they are."""
        if self._closed:
            raise self._lost("the connection is closed")
        try:
            return self._call(self._client.execute(command, arguments or None), timeout)
        except ExecuteError as error:
            raise QmpRefusedError(command, str(error)) from error
        except LateError as error:
            self.close()
            raise self._lost(f"{command} was not answered within {timeout:g} s") from error
        except BROKEN as error:
            self.close()
            raise self._lost(f"the monitor hung up during {command}") from error

    def events(self, name: str) -> list[dict[str, Any]]:
        """The data of all events of that name since the connection was opened (the last 1000 of
        all names are kept)."""
        return [data for kind, data in list(self._events) if kind == name]

    def close(self) -> None:
        """Idempotent; never raises."""
        if self._closed:
            return
        self._closed = True
        with suppress(LateError, *BROKEN):  # the peer may be gone already
            self._call(self._client.disconnect(), CONNECT_SECONDS)
        self._end_loop()

    def _end_loop(self) -> None:
        async def finish() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        with suppress(LateError, CancelledError):  # the thread is a daemon
            self._call(finish(), CONNECT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONNECT_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except LateError:
            future.cancel()
            raise

    def _lost(self, why: str) -> MachineLostError:
        return MachineLostError(
            f"the connection to {self._path} was lost: {why}",
            hint="see whether the machine still runs; the next backup goes on from there",
            retry="later",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _not_opened(path: Path, error: BaseException) -> SourceError:
    inner = getattr(error, "exc", None) or error.__cause__ or error
    why = getattr(inner, "strerror", None) or str(inner)
    if isinstance(inner, OSError) and inner.errno in FULL:
        return _busy(path)
    told = _unreachable(path, why)
    if isinstance(inner, (FileNotFoundError, ConnectionRefusedError)):
        return NobodyListensError(told.message, hint=told.hint, retry=told.retry)
    return told


def _busy(path: Path) -> SourceError:
    return SourceError(
        f"the monitor {path} accepts no further client",
        code="MonitorBusy",
        hint="give the backup a QMP socket of its own (a second -qmp of QEMU)",
        retry="later",
    )


def _unreachable(path: Path, why: str) -> SourceError:
    return SourceError(
        f"the monitor {path} cannot be reached: {why}",
        code="MonitorUnreachable",
        hint="see whether the machine runs, and whether its qmp socket is the one in the settings",
        retry="later",
    )
