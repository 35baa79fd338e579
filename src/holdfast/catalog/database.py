"""Opening the catalog: SQLite embedded or PostgreSQL, with the same promises.

A committed write survives a power cut on both. On SQLite every write transaction takes the write
lock at its start (BEGIN IMMEDIATE), so that none fails half way because another came first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
)

from holdfast.catalog.filesystems import refuse_network_folder
from holdfast.catalog.recall import Recall
from holdfast.errors import ConflictError, StoreFullError, StoreUnavailableError, UsageError

PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=30000",
    "cache_size=-16384",
    "temp_store=MEMORY",
    "journal_size_limit=67108864",
)
_WRITES = "holdfast_writes"

T = TypeVar("T")


def _use_sqlite_rules(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def sqlite_engine(path: Path, **options: Any) -> Engine:
    """An engine on a local SQLite file with our durability rules. The folder must exist."""
    refuse_network_folder(path.parent)
    options.setdefault("pool_size", 16)
    options.setdefault("max_overflow", 32)
    engine = create_engine(f"sqlite:///{path}", **options)
    event.listen(engine, "connect", _use_sqlite_rules)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def engine_for_guests(path: Path) -> Engine:
    """An SQLite engine with our durability rules for a library that begins its own transactions:
    the driver begins (IMMEDIATE) before the first change."""
    refuse_network_folder(path.parent)
    options: dict[str, Any] = {"isolation_level": "IMMEDIATE"}
    engine = create_engine(f"sqlite:///{path}", connect_args=options)

    @event.listens_for(engine, "connect")
    def apply_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


def postgres_engine(url: URL) -> Engine:
    """An engine on PostgreSQL through psycopg 3; statements run in UTC."""
    driver = url.set(drivername="postgresql+psycopg")
    return create_engine(
        driver,
        pool_size=16,
        max_overflow=32,
        pool_pre_ping=True,
        connect_args={"options": "-c timezone=UTC", "application_name": "holdfast"},
    )


def open_engine(url: str) -> Engine:
    """The engine of a catalog URL: ``sqlite:///PATH`` or ``postgresql://...``.

    UsageError (CatalogUrlInvalid) for any other."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    backend = parsed.get_backend_name() if parsed is not None else ""
    if parsed is not None and backend == "sqlite" and parsed.database:
        return sqlite_engine(Path(parsed.database))
    if parsed is not None and backend == "postgresql":
        return postgres_engine(parsed)
    raise UsageError(
        "the catalog's URL is neither sqlite:///PATH nor postgresql://...",
        code="CatalogUrlInvalid",
        hint="set [catalog] url, or leave it empty for an SQLite file in the data folder",
    )


class Catalog:
    """The catalog's one door: a read or a write transaction at a time, from any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = engine.execution_options(**{_WRITES: False})
        self._recall = Recall()

    @classmethod
    def open(cls, url: str) -> Catalog:
        return cls(open_engine(url))

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, over one consistent view on SQLite."""
        with _translated(), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed when the block ends, rolled back when it raises.

        ConflictError (CatalogConflict) when a uniqueness rule stops it; UsageError (InvalidText)
        for a text PostgreSQL refuses; StoreUnavailableError (CatalogUnavailable) when the database
        does not answer."""
        try:
            with _translated(), self.engine.begin() as connection:
                yield connection
        finally:
            self.forget()

    def recall(self, key: Hashable, ask: Callable[[Connection], T]) -> T:
        """What ``ask`` finds in a transaction that only reads, kept until something is written
        through this door. What another program writes is seen within a second. ``key`` names the
        question with its arguments; what is found must not be changed."""

        def find() -> T:
            with self.read() as connection:
                return ask(connection)

        return self._recall.get(key, find)

    def forget(self) -> None:
        """What ``recall`` kept is asked for again, as after a write."""
        self._recall.forget()

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except IntegrityError as error:
        raise ConflictError(
            "the change collides with a row that another request wrote",
            code="CatalogConflict",
            hint="Repeat the request.",
            retry="same",
        ) from error
    except OperationalError as error:
        raise _unavailable(error) from error
    except DataError as error:
        raise UsageError(
            "a text is too long for the catalog, or holds a character it cannot keep",
            code="InvalidText",
            hint="shorten it, and leave out NUL characters",
        ) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _unavailable(error) from error
        raise


def _unavailable(error: DBAPIError) -> StoreUnavailableError | StoreFullError:
    if "full" in str(error.orig):
        return StoreFullError(
            "the catalog's disk is full",
            code="CatalogFull",
            hint="Free space in the server's data folder; nothing committed was lost.",
        )
    return StoreUnavailableError(
        "the catalog database does not answer",
        code="CatalogUnavailable",
        hint="Check that the database runs and is reachable; the request can be repeated.",
    )
