"""Putting a server's parts together: the only module that picks adapters."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from holdfast.adapters.messages.opening import open_channels
from holdfast.adapters.object_store import make_store, open_store
from holdfast.catalog.database import Catalog
from holdfast.catalog.migrate import upgrade
from holdfast.identity.authority import Authority
from holdfast.identity.installation import Installation, open_installation
from holdfast.identity.logins import Logins
from holdfast.identity.people import People
from holdfast.identity.private_files import make_folder, write_whole
from holdfast.identity.provider import ProviderSettings, read_secret
from holdfast.identity.tokens import Tokens
from holdfast.jobs.durable import DurableTurns
from holdfast.jobs.engine import JobEngine
from holdfast.jobs.settings import JobSettings
from holdfast.ports.clock import Clock, Random
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.notifier import Notifier
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
    notifier: Notifier

    def start(self) -> None:
        """Finish what a killed server left half made, then let jobs run."""
        ensure_local(self.platform)
        finish_interrupted(self.platform)
        self.engine.start()
        self.notifier.start()

    def close(self) -> None:
        self.notifier.stop()
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
    desk = VaultDesk(catalog, installation.platform_key, open_store, cache, clock, rng, make_store)
    engine = _engine(data, settings, catalog, desk, clock, rng)
    tokens = Tokens(
        installation.token_key, installation.tenant_id, clock, rng, settings.token_seconds
    )
    key, days = installation.platform_key, settings.refresh_days
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
        people=People.build(catalog, tokens, clock, rng, key, days, _provider(settings)),
        tenant_id=installation.tenant_id,
        subscription_id=installation.subscription_id,
    )
    agents = AgentDesk.build(
        catalog, engine, desk.open, settings.max_uploads, settings.lookup_ids_per_second
    )
    notifier = Notifier(platform, open_channels(settings), _driver_name(data, rng))
    return Parts(platform, engine, agents, installation, notifier)


def _provider(settings: Settings) -> ProviderSettings | None:
    """The OpenID provider people may sign in with. UsageError (InvalidSettings)."""
    if not settings.oidc_issuer:
        return None
    return ProviderSettings(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        secret=read_secret(settings.oidc_client_secret_file),
        name=settings.oidc_name,
        claim=settings.oidc_user_claim,
        ca=settings.oidc_ca_file,
    )


def _engine(
    data: Path, settings: Settings, catalog: Catalog, desk: VaultDesk, clock: Clock, rng: Random
) -> JobEngine:
    times = JobSettings(
        agent_wait_seconds=settings.agent_wait_seconds,
        lease_seconds=settings.task_lease_seconds,
        tick_seconds=settings.tick_seconds,
        history_days=settings.history_days,
        collect_rewrite_below=settings.collect_rewrite_percent / 100,
        collect_bytes=settings.collect_bytes_per_second,
        collect_requests=settings.collect_requests_per_second,
        max_item_points=settings.max_item_points,
        scrub_days=settings.scrub_days,
        vault_every_run=settings.vault_every_run,
    )
    url = DurableTurns.sqlite_url(data) if catalog.is_sqlite else settings.catalog_url
    driver = _driver_name(data, rng)
    turns = DurableTurns(url, driver, times.threads, times.tick_seconds)
    return JobEngine(
        catalog, desk.open, clock, rng, durable=turns, driver=driver, settings=times, door=desk
    )


def _catalog_url(data: Path, settings: Settings) -> str:
    return settings.catalog_url or f"sqlite:///{data / 'catalog.sqlite'}"


def _driver_name(data: Path, rng: Random) -> str:
    """This server's name among those of one catalog; stable over restarts. It lies outside of
    DIR/keys, which several servers share."""
    path = data / "server.id"
    if not path.exists():
        write_whole(path, rng.token(8).hex().encode())
    return f"server-{path.read_text().strip()}"
