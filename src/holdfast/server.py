"""The server process: one folder, one address, in the foreground until SIGTERM."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

import uvicorn

from holdfast import alpn, crashpoint
from holdfast.adapters.clock import SystemClock, SystemRandom, choose_clock
from holdfast.arm.app import build_app
from holdfast.arm.lane.door import Door
from holdfast.arm.lane.service import DataLane
from holdfast.bootstrap import Parts, build
from holdfast.errors import ConflictError, UsageError
from holdfast.identity.certificates import ensure_certificate, server_names
from holdfast.identity.private_files import make_folder
from holdfast.logs import set_up_logs
from holdfast.services.agent_desk import READS
from holdfast.settings import Settings, load_settings

log = logging.getLogger("holdfast.server")
DEFAULT_LISTEN = "127.0.0.1:8443"
DRAIN_SECONDS = 10
KEEP_ALIVE_SECONDS = 75
HANDSHAKE_SECONDS = 60.0
CERTIFICATE_CHECK_SECONDS = 6 * 3600.0
MAX_OPEN_FILES = 65536


def run_server(
    data: Path,
    listen: str = DEFAULT_LISTEN,
    *,
    test_mode: bool = False,
    new_administrator: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT. HoldfastError when it cannot start.

    ``new_administrator``: replace the administrator and its credentials file."""
    host, port = parse_listen(listen)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(data.absolute(), host, port, test_mode, new_administrator)
    except KeyboardInterrupt:
        log.info("stopped while starting or stopping")


def _run(data: Path, host: str, port: int, test_mode: bool, new_administrator: bool) -> None:
    os.umask(0o077)
    with _held(data):
        settings = load_settings(data, os.environ)
        set_up_logs(settings.log_level)
        _raise_open_files()
        if test_mode:
            crashpoint.arm(os.environ)
            _say("warning: --test-mode: the clock may be a file; not for real data", sys.stderr)
        sock = _bind(host, port)
        certificate = _Certificate(data, settings, host)
        clock = choose_clock(os.environ, test_mode=test_mode)
        parts = build(data, settings, clock, SystemRandom(), new_administrator=new_administrator)
        try:
            parts.start()
            _serve(parts, sock, certificate, lambda: _say_ready(data, host, sock, parts))
        finally:
            parts.close()
            certificate.close()


def parse_listen(listen: str) -> tuple[str, int]:
    """UsageError (InvalidListen) for what is no HOST:PORT."""
    host, _, port = listen.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(
            f"{listen!r} is no address to listen on",
            code="InvalidListen",
            hint="give HOST:PORT, e.g. --listen 127.0.0.1:8443",
        )
    return host.strip("[]"), int(port)


@contextmanager
def _held(data: Path) -> Iterator[IO[bytes]]:
    """Own the data folder. ConflictError (DataFolderInUse), UsageError (DataFolderUnusable)."""
    try:
        make_folder(data)
        lock = (data / "server.lock").open("ab")
    except OSError as error:
        raise UsageError(
            f"the data folder {data} cannot be used: {error.strerror}",
            code="DataFolderUnusable",
            hint="choose a folder this user may write",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                f"another server uses {data}",
                code="DataFolderInUse",
                hint="stop it first, or give this one a folder of its own",
            ) from error
        yield lock


def _raise_open_files() -> None:
    """Use as many descriptors as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MAX_OPEN_FILES), hard))


def _bind(host: str, port: int) -> socket.socket:
    """The address is taken now and listened on once everything is ready."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        raise ConflictError(
            f"{host}:{port} {why}",
            code="AddressInUse",
            hint="choose another address: --listen HOST:PORT",
        ) from error
    return sock


class _Certificate:
    """The TLS contexts, whose certificate is renewed while the server runs."""

    def __init__(self, data: Path, settings: Settings, host: str) -> None:
        self._data = data
        self._names = server_names(host, (name.strip() for name in settings.names.split(",")))
        self.context = _tls_context(alpn.HTTP)
        self.data_context = _tls_context(alpn.DATA)
        self._stop = threading.Event()
        self._load()
        threading.Thread(target=self._renew, name="holdfast-certificate", daemon=True).start()

    def _load(self) -> None:
        path = ensure_certificate(self._data, self._names, SystemClock())
        self.context.load_cert_chain(path)
        self.data_context.load_cert_chain(path)

    def _renew(self) -> None:
        while not self._stop.wait(CERTIFICATE_CHECK_SECONDS):
            try:
                self._load()
            except Exception:
                log.exception("the TLS certificate could not be checked")

    def close(self) -> None:
        self._stop.set()


def _tls_context(protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
    return context


class _Server(uvicorn.Server):
    """Serves what comes in by the door and is not for the data lane. Says when it listens, lets
    long polls end when it is asked to stop, and ends with code 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        lane: DataLane,
        ready: Callable[[], None],
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._lane = lane
        self._door: Door | None = None
        self._ready = ready
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        for sock in sockets or []:
            self._door = Door(sock, self._lane.take, self._serve_api)
            self._door.open(self.config.backlog)
        self._ready()

    async def _serve_api(self, sock: socket.socket) -> None:
        """Give a connection to the framework. OSError when its handshake fails."""
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(
            self._protocol, sock, ssl=self.config.ssl, ssl_handshake_timeout=HANDSHAKE_SECONDS
        )

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let both sides finish what they are at."""
        if self._door is not None:
            self._door.close()
        await asyncio.gather(
            asyncio.to_thread(self._lane.close, DRAIN_SECONDS), self._end_api(sockets)
        )

    async def _end_api(self, sockets: list[socket.socket] | None) -> None:
        """Drop idle connections at once: closing them politely would wait for their clients."""
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is None or cycle.response_complete:
                connection.transport.abort()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # it would raise them again after a clean end
        self._stopping()


def _serve(
    parts: Parts, sock: socket.socket, certificate: _Certificate, ready: Callable[[], None]
) -> None:
    lane = DataLane(
        parts.platform,
        parts.agents,
        certificate.data_context,
        parts.platform.settings.max_uploads + READS,
    )
    config = uvicorn.Config(
        build_app(parts.platform, parts.agents),
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # else any program of this machine says which address it has
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_context_factory=lambda _config, _default: certificate.context,
    )
    _Server(config, lane, ready, parts.engine.bell.close).run(sockets=[sock])


def _say_ready(data: Path, host: str, sock: socket.socket, parts: Parts) -> None:
    shown = f"[{host}]" if ":" in host else host
    url = f"https://{shown}:{sock.getsockname()[1]}"
    lines = [f"holdfast server listens on {url}"]
    if parts.installation.administrator_is_new:
        lines += [
            f"the administrator's credentials are in {data / 'admin.json'}; log in with:",
            f"  holdfast login --server {url} --ca {data / 'ca.pem'} "
            f"--credentials {data / 'admin.json'}",
        ]
    _say("\n".join(lines), sys.stdout)


def _say(text: str, stream: Any) -> None:
    stream.write(text + "\n")
    stream.flush()
