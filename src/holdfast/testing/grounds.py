"""Where a world stands: which database its server uses and which store its vault lies in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.object_store import open_store
from holdfast.catalog import tables
from holdfast.catalog.database import Catalog
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.servers import Postgres, S3Service
from holdfast.testing.world import GROUP, VAULT, World
from holdfast.vaultstore.layout import find_vaults
from holdfast.vaultstore.values import Unlock
from holdfast.vaultstore.vault import Vault

GROUNDS = ("sqlite-disk", "postgresql-disk", "sqlite-s3")
AT_SCALE = "postgresql-s3"  # as an operator of many servers has it; each half has a ground above
S3_URL = "s3://holdfast-tests"


@dataclass(frozen=True, slots=True)
class Ground:
    """``world`` is set up: server, login, one vault, one enrolled and running agent."""

    name: str
    world: World
    s3: S3Service | None
    catalog_url: str

    def store(self) -> ObjectStore:
        """The objects of all vaults."""
        if self.s3 is None:
            return open_store(f"file://{self.world.server_data / 'vaults'}", {})
        return open_store(f"{S3_URL}/{self.world.folder.name}", self.s3.credentials)

    def packs(self) -> dict[str, int]:
        """The packs of all vaults and their sizes in bytes."""
        return {
            found.key: found.size for found in self.store().list("") if "/packs/" in f"/{found.key}"
        }

    def received_bytes(self, job: str) -> int:
        """Bytes of packs that the server received whole in all attempts of a job."""
        sessions, work = tables.agent_sessions.c, tables.agent_tasks.c
        query = select(func.coalesce(func.sum(sessions.received_bytes), 0))
        joined = tables.agent_sessions.join(tables.agent_tasks, sessions.task_id == work.id)
        return self._number(query.select_from(joined).where(work.job_id == job))

    def open_sessions(self) -> list[str]:
        """Every session that is open in a vault's log or in the catalog."""
        sessions = tables.agent_sessions.c
        query = select(func.count()).select_from(tables.agent_sessions)
        left = self._number(query.where(sessions.closed_at.is_(None)))
        found = [f"{left} in the catalog"] if left else []
        unlock = Unlock(platform_key=(self.world.server_data / "keys/platform.key").read_bytes())
        store = self.store()
        for vault_id in find_vaults(store):
            clock, rng = SystemClock(), SystemRandom()
            vault = Vault.open(store, vault_id, unlock, clock=clock, rng=rng)
            found += [f"{one.kind} of {one.item_key}" for one in vault.open_sessions()]
            vault.close()
        return found

    def _number(self, query: Any) -> int:
        catalog = Catalog.open(self.catalog_url)
        try:
            with catalog.read() as connection:
                return int(connection.execute(query).scalar_one())
        finally:
            catalog.close()


@contextmanager
def ground(
    name: str,
    folder: Path,
    environment: Mapping[str, str],
    *,
    postgres: Postgres | None = None,
    s3: S3Service | None = None,
) -> Iterator[Ground]:
    """A running world on ground ``name``; stopped at the end."""
    settings = dict(environment)
    if postgres is not None:
        settings["HOLDFAST_CATALOG_URL"] = postgres.database()
    world = World(folder, settings, test_mode=True)
    if "HOLDFAST_TEST_CLOCK" not in settings:
        world.environment.pop("HOLDFAST_TEST_CLOCK")
    try:
        world.start_server()
        world.login()
        world.ok("vault", "create", VAULT, "-g", GROUP, *_region(world, s3))
        enrolled = world.enroll()
        assert enrolled.code == 0, enrolled
        world.start_agent()
        kept = f"sqlite:///{world.server_data / 'catalog.sqlite'}"
        yield Ground(name, world, s3, settings.get("HOLDFAST_CATALOG_URL", kept))
    finally:
        world.close()


def _region(world: World, s3: S3Service | None) -> tuple[str, ...]:
    if s3 is None:
        return ()
    secret = world.folder / "s3-credentials.json"
    secret.touch(mode=0o600)
    secret.write_text(json.dumps(s3.credentials))
    store = f"{S3_URL}/{world.folder.name}"
    world.ok("region", "create", "cloud", "--store", store, "--credentials", secret)
    return ("-l", "cloud")
