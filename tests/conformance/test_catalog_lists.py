"""Lists cost the same whatever lies beside the page: a fixed number of statements, each read off an
index in the order of the page."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Connection
from sqlalchemy.event import listen, remove

from holdfast.catalog import containers, items, jobs, listing, points, policies
from holdfast.catalog.database import Catalog
from holdfast.catalog.rows import Page
from holdfast.services.item_views import view_items
from holdfast.services.platform import Platform
from holdfast.testing.catalog_rows import Amounts, Estate, fill, furnish
from holdfast.testing.ports import SeededRandom

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEW = Amounts(containers=30, items=40, points=60, one_item=30, jobs=60, policies=30)
MANY = Amounts(containers=300, items=1200, points=3000, one_item=1500, jobs=3000, policies=300)
LIMIT = 20
PLATFORM = cast(Platform, SimpleNamespace(now=lambda: NOW))
Statements = list[tuple[str, Any]]
Read = Callable[[Connection, Estate], Page[Any]]


def item_page(connection: Connection, estate: Estate, **filters: Any) -> Page[Any]:
    page = items.page_items(connection, estate.vault.id, limit=LIMIT, **filters)
    assert len(view_items(PLATFORM, connection, page.rows)) == len(page.rows)
    return page


def container_page(connection: Connection, estate: Estate) -> Page[Any]:
    page = containers.page_containers(connection, estate.vault.id, limit=LIMIT)
    assert listing.agents_by_id(connection, (row.agent_id for row in page.rows))
    assert listing.items_on(connection, (row.id for row in page.rows))
    return page


def policy_page(connection: Connection, estate: Estate) -> Page[Any]:
    page = policies.page_policies(connection, estate.vault.id, limit=LIMIT)
    assert listing.items_under(connection, (row.id for row in page.rows))
    return page


def job_page(connection: Connection, estate: Estate, **filters: Any) -> Page[Any]:
    return jobs.page_jobs(connection, estate.vault.id, limit=LIMIT, **filters)


def first_item(connection: Connection, estate: Estate) -> str:
    """The one with most points."""
    page = items.page_items(connection, estate.vault.id, limit=2)
    counted = listing.points_by_item(connection, (row.id for row in page.rows))
    return max(counted, key=lambda key: counted[key].count)


def point_page(connection: Connection, estate: Estate, **filters: Any) -> Page[Any]:
    item = first_item(connection, estate)
    return points.page_points(connection, item, limit=LIMIT, **filters)


LISTS: dict[str, Read] = {
    "items": item_page,
    "items of a policy": lambda c, e: item_page(c, e, policy_id=e.policy.id),
    "machines": container_page,
    "policies": policy_page,
    "jobs": job_page,
    "jobs by status": lambda c, e: job_page(c, e, status="Completed"),
    "jobs by operation": lambda c, e: job_page(c, e, operation="Backup"),
    "jobs since": lambda c, e: job_page(c, e, since=NOW - timedelta(days=9)),
    "points": point_page,
    "points until": lambda c, e: point_page(c, e, until=NOW),
}


@contextmanager
def noted(catalog: Catalog) -> Iterator[Statements]:
    """The statements that are run meanwhile."""
    asked: Statements = []

    def note(_c: object, _cursor: object, text: str, values: object, *_: object) -> None:
        asked.append((text, values))

    listen(catalog.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        remove(catalog.engine, "before_cursor_execute", note)


@contextmanager
def instructions(connection: Connection) -> Iterator[list[None]]:
    """A list that grows by one with each hundred instructions of SQLite meanwhile."""
    done: list[None] = []
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.set_progress_handler(lambda: done.append(None), 100)
    try:
        yield done
    finally:
        driver.set_progress_handler(None, 100)


def filled(catalog: Catalog, amounts: Amounts) -> Estate:
    rng = SeededRandom(amounts.items)
    with catalog.write() as connection:
        estate = furnish(connection, rng, NOW)
        fill(connection, rng, estate.policy, NOW, amounts)
    return estate


def statements_of(catalog: Catalog, estate: Estate) -> dict[str, Statements]:
    found = {}
    for name, read in LISTS.items():
        with noted(catalog) as asked, catalog.read() as connection:
            page = read(connection, estate)
        assert len(page.rows) == LIMIT, name
        assert page.next_token, name
        found[name] = asked
    return found


def test_a_page_takes_as_many_statements_however_long_its_list(catalog: Catalog) -> None:
    few = statements_of(catalog, filled(catalog, FEW))
    many = statements_of(catalog, filled(catalog, MANY))
    for name in LISTS:
        assert len(few[name]) == len(many[name]) <= 5, name


@pytest.fixture
def sqlite_catalog(sqlite_template: Path, tmp_path: Path) -> Iterator[Catalog]:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(sqlite_template.read_bytes())
    opened = Catalog.open(f"sqlite:///{path}")
    yield opened
    opened.close()


def test_pages_are_read_off_an_index_in_their_order(sqlite_catalog: Catalog) -> None:
    found = statements_of(sqlite_catalog, filled(sqlite_catalog, MANY))
    with closing(sqlite3.connect(str(sqlite_catalog.engine.url.database))) as opened:
        for name, statements in found.items():
            for text, values in statements:
                plan = [row[3] for row in opened.execute(f"EXPLAIN QUERY PLAN {text}", values)]
                whole = [step for step in plan if step.startswith("SCAN hf_")]
                sorted_first = [step for step in plan if "FOR ORDER BY" in step]
                assert whole == sorted_first == [], (name, text, plan)


RARE: list[dict[str, str]] = [
    {"status": "Failed", "management_type": "MAB"},
    {"status": "Failed", "operation": "Backup"},
    {"status": "Completed", "operation": "Restore", "management_type": "MAB"},
    {"status": "Completed", "operation": "Backup", "management_type": "AzureIaasVM"},
]


def test_jobs_of_several_words_are_found_by_the_rare_one(sqlite_catalog: Catalog) -> None:
    estate = filled(sqlite_catalog, Amounts(containers=30, items=40, jobs=3000))
    for words in RARE:
        with sqlite_catalog.read() as connection, instructions(connection) as done:
            assert jobs.page_jobs(connection, estate.vault.id, **words).rows == []
        assert len(done) < 30, f"{words}: 3000 jobs were gone through"


def test_pages_by_filter_hold_every_row_once(catalog: Catalog) -> None:
    estate = filled(catalog, FEW)
    with catalog.read() as connection:
        seen: list[str] = []
        token = ""
        while True:
            page = items.page_items(
                connection, estate.vault.id, policy_id=estate.policy.id, limit=7, token=token
            )
            seen += [row.item_key for row in page.rows]
            token = page.next_token
            if not token:
                break
        assert seen == sorted(set(seen))
        assert len(seen) == FEW.items + 1
        machines = containers.page_containers(connection, estate.vault.id, host="HOST00007")
        assert [row.name for row in machines.rows] == ["Linux;host00007"]
        kinds = policies.page_policies(connection, estate.vault.id, kind="azureiaasvm", limit=99)
        assert len(kinds.rows) == FEW.policies + 1
        assert policies.page_policies(connection, estate.vault.id, kind="MAB").rows == []
