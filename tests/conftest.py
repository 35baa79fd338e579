"""Fixtures several tiers share: a real PostgreSQL, and an empty catalog on either engine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from holdfast.catalog.database import Catalog
from holdfast.catalog.migrate import upgrade
from holdfast.testing.servers import Postgres, S3Service, postgres, seaweedfs


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One server for the whole run; ask it for a fresh ``database()``."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3_service() -> Iterator[S3Service]:
    """One S3 service for the whole run."""
    with seaweedfs() as running:
        yield running


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite catalog to copy."""
    path = tmp_path_factory.mktemp("template") / "catalog.sqlite"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Postgres) -> str:
    """The name of a migrated, empty database to copy."""
    url = postgres_server.database()
    _migrate(url)
    return str(make_url(url).database)


def _migrate(url: str) -> None:
    opened = Catalog.open(url)
    upgrade(opened.engine)
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated, empty catalog, once per engine."""
    if request.param == "sqlite":
        path = tmp_path / "catalog.sqlite"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.database(template=request.getfixturevalue("postgres_template"))


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[Catalog]:
    """A migrated, empty catalog, once per engine."""
    opened = Catalog.open(catalog_url)
    yield opened
    opened.close()
