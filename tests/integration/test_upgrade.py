"""A server that finds a catalog of an earlier revision copies it, then migrates."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from alembic import command

from holdfast.catalog import migrate
from holdfast.catalog.database import Catalog
from holdfast.testing.live_server import LiveServer
from holdfast.testing.servers import Postgres

QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}
OLDER = "0001"


def set_back(url: str) -> None:
    """Make the catalog one that the earlier release wrote."""
    catalog = Catalog.open(url)
    with catalog.engine.begin() as connection:
        command.downgrade(migrate.config_on(connection), OLDER)
    assert revision_of(url) == OLDER
    catalog.close()


def revision_of(url: str) -> str:
    catalog = Catalog.open(url)
    try:
        with catalog.read() as connection:
            return migrate.current_revision(connection)
    finally:
        catalog.close()


def assert_newest(url: str) -> None:
    catalog = Catalog.open(url)
    with catalog.read() as connection:
        assert migrate.current_revision(connection) == migrate.newest_revision() != OLDER
        assert migrate.differences(connection) == []
    catalog.close()


def a_server_with_a_vault(data: Path, environment: dict[str, str]) -> LiveServer:
    server = LiveServer(data, environment)
    server.start()
    server.make_vault()
    server.stop()
    return server


def test_an_sqlite_catalog_is_copied_and_upgraded_at_start(tmp_path: Path) -> None:
    server = a_server_with_a_vault(tmp_path / "server", QUICK)
    url = f"sqlite:///{server.data / 'catalog.sqlite'}"
    set_back(url)
    try:
        server.start()
        assert server.ok("GET", server.vault())["name"] == "v1"
        server.make_vault("after")
    finally:
        server.stop()
    assert_newest(url)
    copy = server.data / f"catalog.sqlite.before-upgrade-from-{OLDER}"
    assert copy.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(copy)) as opened:
        assert opened.execute("SELECT name FROM hf_vaults").fetchall() == [("v1",)]
        columns = {row[1] for row in opened.execute("PRAGMA table_info(hf_agent_sessions)")}
        assert "received_bytes" in columns
        assert "asked_ids" not in columns, "it is from before the upgrade"
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_postgresql_catalog_is_dumped_before_it_is_upgraded(
    tmp_path: Path, postgres_server: Postgres
) -> None:
    url = postgres_server.database()
    programs = {"PATH": f"{postgres_server.programs}:{os.environ['PATH']}"}
    environment = {**QUICK, **programs, "HOLDFAST_CATALOG_URL": url}
    server = a_server_with_a_vault(tmp_path / "server", environment)
    set_back(url)
    try:
        server.start()
        assert server.ok("GET", server.vault())["name"] == "v1"
    finally:
        server.stop()
    assert_newest(url)
    dump = server.data / f"catalog.before-upgrade-from-{OLDER}.dump"
    assert dump.stat().st_mode & 0o077 == 0
    words = [str(postgres_server.programs / "pg_restore"), "--data-only", "--file=-", str(dump)]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "\tv1\t" in shown
    assert "received_bytes" in shown
    assert "asked_ids" not in shown


def test_a_postgresql_catalog_without_a_copy_is_left_alone_until_one_is_told_of(
    tmp_path: Path, postgres_server: Postgres
) -> None:
    url = postgres_server.database()
    empty = tmp_path / "no-programs"
    empty.mkdir()
    environment = {**QUICK, "PATH": str(empty), "HOLDFAST_CATALOG_URL": url}
    assert shutil.which("pg_dump", path=str(empty)) is None
    server = a_server_with_a_vault(tmp_path / "server", environment)
    set_back(url)
    process = server.spawn()
    assert process.wait(timeout=60) != 0
    assert "is not upgraded without a copy" in server.log()
    assert revision_of(url) == OLDER
    server.environment["HOLDFAST_CATALOG_COPIED"] = "0000"
    assert server.spawn().wait(timeout=60) != 0, "another revision's copy does not count"
    server.environment["HOLDFAST_CATALOG_COPIED"] = OLDER
    try:
        server.start()
        assert server.ok("GET", server.vault())["name"] == "v1"
    finally:
        server.stop()
    assert_newest(url)
