"""A copy of the catalog before its upgrade: of the SQLite file, or of PostgreSQL by pg_dump."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from holdfast.errors import ConflictError

PG_DUMP = "pg_dump"
MOST_TEXT = 500


def copy_catalog(engine: Engine, revision: str, folder: Path | None) -> str:
    """The path of a whole copy. ConflictError (CatalogNotCopied) when none can be made."""
    if engine.dialect.name == "sqlite":
        return copy_sqlite(engine, revision)
    return copy_postgres(engine, revision, folder)


def copy_sqlite(engine: Engine, revision: str) -> str:
    """Copy the file beside itself with SQLite's own backup, so that a live WAL is included."""
    path = engine.url.database
    if engine.dialect.name != "sqlite" or not path:
        return ""
    target = Path(f"{path}.before-upgrade-from-{revision}")
    staged = target.with_name(target.name + ".partial")
    staged.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(staged)) as copy:
        source.backup(copy)
    staged.replace(target)
    return str(target)


def copy_postgres(engine: Engine, revision: str, folder: Path | None) -> str:
    """Dump the database into ``folder`` (pg_restore reads it). ConflictError (CatalogNotCopied)."""
    program = shutil.which(PG_DUMP)
    if program is None or folder is None:
        raise _not_copied(revision, f"{PG_DUMP} is not installed")
    target = folder / f"catalog.before-upgrade-from-{revision}.dump"
    staged = target.with_name(target.name + ".partial")
    staged.unlink(missing_ok=True)
    staged.touch(mode=0o600)
    url = engine.url.set(drivername="postgresql", password=None)
    environment = dict(os.environ)
    if engine.url.password:
        environment["PGPASSWORD"] = str(engine.url.password)  # not where others see it
    words = [program, "--format=custom", "--no-password", f"--file={staged}"]
    words.append(f"--dbname={url.render_as_string()}")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        staged.unlink(missing_ok=True)
        raise _not_copied(revision, f"{PG_DUMP} failed: {done.stderr.strip()[:MOST_TEXT]}")
    staged.replace(target)
    return str(target)


def _not_copied(revision: str, why: str) -> ConflictError:
    return ConflictError(
        f"the catalog is of revision {revision} and is not upgraded without a copy: {why}",
        code="CatalogNotCopied",
        hint=f"Nothing was changed. Put a {PG_DUMP} of the database's version on the server's "
        f"PATH; or copy the database yourself and start with HOLDFAST_CATALOG_COPIED={revision}.",
    )
