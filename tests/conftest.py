"""Fixtures several tiers share: a real PostgreSQL, and an empty catalog on either engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.catalog.database import Catalog
from holdfast.catalog.migrate import upgrade
from holdfast.testing.servers import Postgres, postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One server for the whole run; ask it for a fresh ``database()``."""
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once per engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.database()


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[Catalog]:
    """A migrated, empty catalog, once per engine."""
    opened = Catalog.open(catalog_url)
    upgrade(opened.engine)
    yield opened
    opened.close()
