"""A server of read-only disks: over a socket file, or a port of this machine, to several clients.

Memory in use is bounded by ``Limits``: clients x threads x 256 KiB of data, and as much again in
the system's socket buffers. There is no encryption: a socket file stands in a folder only its
owner may enter, and a port does not tell which exports there are, so that a name that cannot be
guessed keeps others of the machine out.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import stat
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from holdfast.errors import ConflictError, UsageError
from holdfast.nbd.address import LoopbackPort, UnixSocket
from holdfast.nbd.answers import Answers
from holdfast.nbd.exports import BlockReader, ExportTable
from holdfast.nbd.greeting import greet
from holdfast.nbd.session import THREADS, Session
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import WireError

log = logging.getLogger("holdfast.nbd")
FOLDER_MODE, SOCKET_MODE = 0o700, 0o600
BACKLOG = 16
RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """``clients`` at a time; ``threads`` answering each; ``greeting_seconds`` for a handshake."""

    clients: int = 32
    threads: int = THREADS
    greeting_seconds: float = 10.0


class NbdServer:
    """Serves from the first ``listen_...`` until ``close``. Thread safe."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._exports = ExportTable()
        self._lock = threading.Lock()  # guards all below
        self._clients: dict[Stream, _Client] = {}
        self._none_left = threading.Condition(self._lock)
        self._listeners: list[_Listener] = []
        self._closed = False

    def add(self, name: str, reader: BlockReader, description: str = "") -> None:
        """Serve a disk. UsageError (InvalidExportName), ConflictError (ExportExists)."""
        self._exports.add(name, reader, description)

    def remove(self, name: str) -> None:
        """Stop serving a disk; clients that use it are cut off. NotFoundError."""
        self._exports.remove(name)
        with self._lock:
            using = [one for one in self._clients.values() if one.export == name]
        for one in using:
            one.cut()

    @property
    def client_count(self) -> int:
        """Connections there are now, with those still in the handshake."""
        with self._lock:
            return len(self._clients)

    def listen_unix(self, path: Path) -> UnixSocket:
        """Listen on a socket file (0600), whose folder is made, or must be, its owner's alone
        (0700). UsageError (SocketPathTooLong, FolderNotPrivate), ConflictError (AddressInUse)."""
        address = UnixSocket(path)
        _check_private(path.parent)
        _remove_stale(address)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listen(opened, str(path), listed=True, path=path)
        return address

    def listen_loopback(self, port: int = 0, *, listed: bool = False) -> LoopbackPort:
        """Listen on a port of 127.0.0.1 (0: one that is free). Every process of the machine can
        connect; with ``listed`` it is told which exports there are. ConflictError."""
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listen(opened, ("127.0.0.1", port), listed=listed, path=None)
        return LoopbackPort(int(opened.getsockname()[1]))

    def _listen(
        self,
        opened: socket.socket,
        target: str | tuple[str, int],
        *,
        listed: bool,
        path: Path | None,
    ) -> None:
        try:
            opened.bind(target)
            if path is not None:
                path.chmod(SOCKET_MODE)
            opened.listen(BACKLOG)
        except OSError as error:
            opened.close()
            shown = target if isinstance(target, str) else "{}:{}".format(*target)
            raise ConflictError(
                f"cannot listen at {shown}: {error.strerror}",
                code="AddressInUse",
                hint="choose another address",
            ) from error
        with self._lock:
            listener = _Listener(self, opened, listed, path)
            self._listeners.append(listener)

    def accept(self, sock: socket.socket, listed: bool) -> None:
        """Serve a connection that was made, unless there are too many."""
        sock.settimeout(None)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(sock, self._limits.greeting_seconds)
        with self._lock:
            if self._closed or len(self._clients) >= self._limits.clients:
                log.warning("an NBD client was turned away: %d are served", len(self._clients))
                stream.close()
                return
            client = self._clients[stream] = _Client(stream)
        serving = threading.Thread(
            target=self._serve, args=(client, listed), name="nbd-client", daemon=True
        )
        try:
            serving.start()
        except RuntimeError as error:
            log.warning("an NBD client was turned away: %s", error)
            stream.close()
            self._forget(stream)

    def _serve(self, client: _Client, listed: bool) -> None:
        stream = client.stream
        try:
            agreed = greet(stream, self._exports, listed=listed)
        except (OSError, WireError) as error:
            log.info("an NBD client was not served: %s", error)
            agreed = None
        if agreed is None:
            stream.close()
            self._forget(stream)
            return
        stream.made(None)
        name = agreed.export.name
        answers = Answers(stream, agreed)
        threads = self._limits.threads
        session = Session(stream, answers, name, lambda: self._forget(stream), threads)
        with self._lock:
            client.export, client.session = name, session
            stopping = self._closed
        if stopping or self._exports.find(name) is None:
            session.cut()
        session.run()

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            self._clients.pop(stream, None)
            self._none_left.notify_all()

    def close(self, grace: float = 5.0) -> None:
        """Accept nobody, answer what was asked (for ``grace`` seconds at most), end. Idempotent."""
        with self._lock:
            self._closed = True
            listeners, self._listeners = self._listeners, []
            clients = list(self._clients.values())
        for listener in listeners:
            listener.close()
        for client in clients:
            client.finish()
        if self._all_left(grace):
            return
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            client.cut()
        self._all_left(grace)

    def _all_left(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        with self._lock:
            while self._clients:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._none_left.wait(left)
        return True

    def __enter__(self) -> NbdServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Client:
    """A connection, from the handshake on."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.export: str | None = None
        self.session: Session | None = None

    def finish(self) -> None:
        if self.session is not None:
            self.session.finish()
        else:
            self.stream.end()

    def cut(self) -> None:
        if self.session is not None:
            self.session.cut()
        else:
            self.stream.end()


class _Listener:
    """Accepts connections in a thread of its own until it is closed."""

    def __init__(
        self, server: NbdServer, opened: socket.socket, listed: bool, path: Path | None
    ) -> None:
        self._server = server
        self._socket = opened
        self._listed = listed
        self._path = path
        self._wake, self._woken = socket.socketpair()
        self._stopping = threading.Event()
        opened.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="nbd-listener", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._socket, selectors.EVENT_READ)
            waiting.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in waiting.select()}
                if self._woken in ready:
                    return
                try:
                    sock, _ = self._socket.accept()
                except OSError:  # it left again, or all descriptors are in use
                    self._stopping.wait(RETRY_SECONDS)
                    continue
                self._server.accept(sock, self._listed)

    def close(self) -> None:
        self._stopping.set()
        self._wake.send(b"x")
        self._thread.join()
        for one in (self._socket, self._wake, self._woken):
            one.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()


def _check_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise UsageError(
            f"{folder} cannot hold a socket: {error.strerror}",
            code="FolderNotPrivate",
            hint="give a folder that can be written",
        ) from error
    if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.geteuid():
        raise UsageError(
            f"{folder} is open to others, who could read the disks served there",
            code="FolderNotPrivate",
            hint=f"give a folder of its own user with mode 0700: chmod 700 {folder}",
        )


def _remove_stale(address: UnixSocket) -> None:
    """A socket file nobody listens on is left from a process that died."""
    try:
        if not stat.S_ISSOCK(address.path.lstat().st_mode):
            return  # binding says that something is there
        address.open(1.0).close()
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        address.path.unlink(missing_ok=True)
    except OSError:
        return
