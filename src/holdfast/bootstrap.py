"""Putting a server's parts together: the only module that picks adapters."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from holdfast.adapters.object_store import open_store
from holdfast.catalog.database import Catalog
from holdfast.catalog.migrate import upgrade
from holdfast.identity.authority import Authority
from holdfast.identity.installation import Installation, open_installation
from holdfast.identity.logins import Logins
from holdfast.identity.private_files import make_folder, write_whole
from holdfast.identity.tokens import Tokens
from holdfast.jobs.durable import DurableTurns
from holdfast.jobs.engine import JobEngine
from holdfast.jobs.settings import JobSettings
from holdfast.ports.clock import Clock, Random
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.platform import Platform
from holdfast.services.regions import ensure_local
from holdfast.services.vaults import finish_interrupted
from holdfast.services.vaults_open import VaultDesk
from holdfast.settings import Settings

log = logging.getLogger("holdfast.server")


@dataclass(frozen=True, slots=True)
class Parts:
    """A built server without its network side. ``close`` lets go of everything."""

    platform: Platform
    engine: JobEngine
    agents: AgentDesk
    installation: Installation

    def start(self) -> None:
        """Finish what a killed server left half made, then let jobs run."""
        ensure_local(self.platform)
        finish_interrupted(self.platform)
        self.engine.start()

    def close(self) -> None:
        self.engine.stop()
        self.agents.close()
        self.platform.vaults.close()
        self.platform.catalog.close()


def build(
    data: Path, settings: Settings, clock: Clock, rng: Random, *, new_administrator: bool = False
) -> Parts:
    """Open or make everything below ``data``. HoldfastError when it cannot be used."""
    make_folder(data / "keys")
    catalog = Catalog.open(_catalog_url(data, settings))
    try:
        return _build(data, settings, catalog, clock, rng, new_administrator)
    except BaseException:
        catalog.close()
        raise


def _build(
    data: Path,
    settings: Settings,
    catalog: Catalog,
    clock: Clock,
    rng: Random,
    new_administrator: bool,
) -> Parts:
    copy = upgrade(catalog.engine, data, settings.catalog_copied)
    if copy:
        log.info("the catalog was upgraded; a copy of before is at %s", copy)
    installation = open_installation(data, catalog, clock, rng, new_administrator=new_administrator)
    cache = data / "cache"
    desk = VaultDesk(catalog, installation.platform_key, open_store, cache, clock, rng)
    engine = _engine(data, settings, catalog, desk, clock, rng)
    tokens = Tokens(
        installation.token_key, installation.tenant_id, clock, rng, settings.token_seconds
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
        tenant_id=installation.tenant_id,
        subscription_id=installation.subscription_id,
    )
    agents = AgentDesk.build(
        catalog, engine, desk.open, settings.max_uploads, settings.lookup_ids_per_second
    )
    return Parts(platform, engine, agents, installation)


def _engine(
    data: Path, settings: Settings, catalog: Catalog, desk: VaultDesk, clock: Clock, rng: Random
) -> JobEngine:
    times = JobSettings(
        agent_wait_seconds=settings.agent_wait_seconds,
        lease_seconds=settings.task_lease_seconds,
        tick_seconds=settings.tick_seconds,
        history_days=settings.history_days,
    )
    url = DurableTurns.sqlite_url(data) if catalog.is_sqlite else settings.catalog_url
    driver = _driver_name(data, rng)
    turns = DurableTurns(url, driver, times.threads)
    return JobEngine(catalog, desk.open, clock, rng, durable=turns, driver=driver, settings=times)


def _catalog_url(data: Path, settings: Settings) -> str:
    return settings.catalog_url or f"sqlite:///{data / 'catalog.sqlite'}"


def _driver_name(data: Path, rng: Random) -> str:
    """This server's name among those of one catalog; stable over restarts. It lies outside of
    DIR/keys, which several servers share."""
    path = data / "server.id"
    if not path.exists():
        write_whole(path, rng.token(8).hex().encode())
    return f"server-{path.read_text().strip()}"
