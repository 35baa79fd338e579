"""Fixtures several tiers share: a real PostgreSQL, and an empty catalog on either engine."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import make_url

from holdfast.catalog.database import Catalog
from holdfast.catalog.migrate import upgrade
from holdfast.testing.contract import Contract
from holdfast.testing.departures import undeparted
from holdfast.testing.servers import Postgres, S3Service, postgres, seaweedfs
from holdfast.testing.watching import WATCHERS, Answered
from holdfast.testing.world import logs_since

CONTRACT = Contract(Path(__file__).parent / "facts" / "recovery_services.json")
NO_DATABASE = "file is not a database"
BEGAN = pytest.StashKey[float]()
# how long a drawn case takes says something about the machine, not about the code
settings.register_profile("holdfast", deadline=None)
settings.load_profile("holdfast")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun with & in a script
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs of tests inherit it


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[BEGAN] = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the programs of a failed test, or of its fixtures, wrote last."""
    report = yield
    if report.failed:
        report.sections += logs_since(item.stash[BEGAN])
        if NO_DATABASE in str(report.longrepr):
            report.sections += heads_of(getattr(item, "funcargs", {}).get("tmp_path"))
    return report


def heads_of(folder: Path | None) -> Iterator[tuple[str, str]]:
    """How the SQLite files of a test begin: what was written over one tells who wrote it."""
    for path in sorted(folder.rglob("*.sqlite*")) if folder is not None else ():
        with path.open("rb") as file:
            yield f"the first bytes of {path.name}", file.read(256).hex(" ", 8)


def check_answer(answered: Answered) -> None:
    """Every answer that a test gets over Azure's part of the API is as Azure describes it."""
    operation = CONTRACT.find(answered.method, answered.path)
    if operation is None:
        return
    found = operation.deviations(answered.status, answered.headers, answered.content())
    wrong = undeparted(found)
    where = f"{answered.method} {answered.path} ({operation.id}) {answered.status}"
    assert wrong == [], "\n".join([where, *map(str, wrong)])


WATCHERS.append(check_answer)


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
