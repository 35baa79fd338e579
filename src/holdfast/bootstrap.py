"""Putting a server together: the only module that picks adapters."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from holdfast import crashpoint
from holdfast.adapters.clock import SystemRandom, choose_clock
from holdfast.adapters.object_store import open_store
from holdfast.arm.app import build_app
from holdfast.catalog.database import Catalog
from holdfast.catalog.migrate import upgrade
from holdfast.errors import ConflictError, UsageError
from holdfast.files import write_whole
from holdfast.first_start import (
    Tenant,
    ensure_certificates,
    ensure_tenant,
    load_keys,
)
from holdfast.identity.authority import Authority
from holdfast.identity.logins import Logins
from holdfast.identity.tokens import Tokens
from holdfast.jobs.durable import DurableTurns
from holdfast.jobs.engine import JobEngine
from holdfast.jobs.settings import JobSettings
from holdfast.logs import set_up_logs
from holdfast.ports.clock import Clock, Random
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.platform import Platform
from holdfast.services.regions import ensure_local
from holdfast.services.vaults_open import VaultDesk
from holdfast.settings import Settings, load_settings

log = logging.getLogger("holdfast.server")
DEFAULT_LISTEN = "127.0.0.1:8443"


@dataclass(frozen=True, slots=True)
class Server:
    """A built server. ``close`` lets go of everything."""

    platform: Platform
    engine: JobEngine
    app: Any
    tenant: Tenant

    def close(self) -> None:
        self.engine.stop()
        self.platform.vaults.close()
        self.platform.catalog.close()


def raise_open_files() -> None:
    """Use as many descriptors as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))


def parse_listen(listen: str) -> tuple[str, int]:
    """UsageError (InvalidListen) for what is no HOST:PORT."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(
            f"{listen!r} is no address to listen on",
            code="InvalidListen",
            hint="give HOST:PORT, e.g. --listen 127.0.0.1:8443",
        )
    return host.strip("[]"), int(port)


def hold_folder(data: Path) -> IO[bytes]:
    """Own the data folder while the returned file is open. ConflictError (DataFolderInUse)."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data / "server.lock").open("ab")
    except OSError as error:
        raise UsageError(
            f"the data folder {data} cannot be used: {error.strerror}",
            code="DataFolderUnusable",
            hint="choose a folder this user may write",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConflictError(
            f"another server uses {data}",
            code="DataFolderInUse",
            hint="stop it first, or give this one a folder of its own",
        ) from error
    return lock


def catalog_url(data: Path, settings: Settings) -> str:
    return settings.catalog_url or f"sqlite:///{(data / 'catalog.sqlite').resolve()}"


def build_server(data: Path, settings: Settings, clock: Clock, rng: Random) -> Server:
    """Everything but the network."""
    catalog = Catalog.open(catalog_url(data, settings))
    copy = upgrade(catalog.engine)
    if copy:
        log.info("the catalog was upgraded; a copy of before is at %s", copy)
    keys = load_keys(data, rng)
    tenant = ensure_tenant(data, catalog, clock, rng)
    tokens = Tokens(keys.token, tenant.tenant_id, clock, rng, settings.token_seconds)
    desk = VaultDesk(catalog, keys.platform, open_store, data / "cache", clock, rng)
    jobs_url = DurableTurns.sqlite_url(data) if catalog.is_sqlite else settings.catalog_url
    driver = _driver_name(data, rng)
    engine = JobEngine(
        catalog,
        desk.open,
        clock,
        rng,
        durable=DurableTurns(jobs_url, driver, JobSettings().threads),
        driver=driver,
        settings=JobSettings(
            agent_wait_seconds=settings.agent_wait_seconds,
            lease_seconds=settings.task_lease_seconds,
            tick_seconds=settings.tick_seconds,
            history_days=settings.history_days,
        ),
    )
    platform = Platform(
        data=data,
        settings=settings,
        clock=clock,
        rng=rng,
        catalog=catalog,
        vaults=desk,
        jobs=engine,
        authority=Authority(catalog, tokens),
        logins=Logins(catalog, tokens, clock, rng),
        tenant_id=tenant.tenant_id,
        subscription_id=tenant.subscription_id,
    )
    ensure_local(platform)
    agents = AgentDesk.build(catalog, engine, desk.open, settings.max_uploads)
    return Server(platform, engine, build_app(platform, agents), tenant)


def _driver_name(data: Path, rng: Random) -> str:
    """This server's name among those of one catalog; stable over restarts."""
    path = data / "keys" / "server.id"
    if not path.exists():
        write_whole(path, rng.token(8).hex().encode())
    return f"server-{path.read_text().strip()}"


def run_server(data: Path, listen: str = DEFAULT_LISTEN, *, test_mode: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. HoldfastError when it cannot start."""
    host, port = parse_listen(listen)
    data = data.absolute()
    os.umask(0o077)
    lock = hold_folder(data)
    try:
        settings = load_settings(data, os.environ)
        set_up_logs(settings.log_level)
        raise_open_files()
        if test_mode:
            crashpoint.arm(os.environ)
            _say("warning: --test-mode: the clock may be a file; not for real data", sys.stderr)
        clock, rng = choose_clock(os.environ, test_mode=test_mode), SystemRandom()
        sock = _listen(host, port)
        (data / "keys").mkdir(mode=0o700, exist_ok=True)
        certificate, key = ensure_certificates(data, host, choose_clock({}, test_mode=False))
        server = build_server(data, settings, clock, rng)
        try:
            server.engine.start()
            _say_ready(data, host, sock.getsockname()[1], server.tenant)
            _serve(server.app, sock, certificate, key, server.engine.bell.close)
        finally:
            server.close()
    finally:
        lock.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
        raise ConflictError(
            f"{host}:{port} {why}",
            code="AddressInUse",
            hint="choose another address: --listen HOST:PORT",
        ) from error
    return sock


def _serve(
    app: Any, sock: socket.socket, certificate: Path, key: Path, closing: Callable[[], None]
) -> None:
    """Serve until a signal; ``closing`` lets waiting calls answer at once then."""
    import uvicorn

    class Closing(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            closing()
            super().handle_exit(sig, frame)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
    )
    config.load()
    config.ssl = context
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it is done
        signal.signal(number, lambda *_: None)
    Closing(config).run(sockets=[sock])


def _say_ready(data: Path, host: str, port: int, tenant: Tenant) -> None:
    shown = f"[{host}]" if ":" in host else host
    lines = [f"holdfast server listens on https://{shown}:{port}"]
    if tenant.new:
        lines += [
            f"the administrator's credentials are in {data / 'admin.json'}; log in with:",
            f"  holdfast login --server https://{shown}:{port} --ca {data / 'ca.pem'} "
            f"--credentials {data / 'admin.json'}",
        ]
    _say("\n".join(lines), sys.stdout)


def _say(text: str, stream: Any) -> None:
    stream.write(text + "\n")
    stream.flush()
