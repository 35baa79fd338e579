"""Where a world stands: which database its server uses and which store its vault lies in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.adapters.object_store import open_store
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.servers import Postgres, S3Service
from holdfast.testing.world import GROUP, VAULT, World

GROUNDS = ("sqlite-disk", "postgresql-disk", "sqlite-s3")
S3_URL = "s3://holdfast-tests"


@dataclass(frozen=True, slots=True)
class Ground:
    """``world`` is set up: server, login, one vault, one enrolled and running agent."""

    name: str
    world: World
    s3: S3Service | None

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
        assert world.enroll().code == 0
        world.start_agent()
        yield Ground(name, world, s3)
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
