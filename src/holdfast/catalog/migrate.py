"""Bringing a catalog to this program's tables, with a copy of what was there first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from holdfast.catalog.columns import PREFIX
from holdfast.catalog.copying import copy_catalog
from holdfast.catalog.tables import metadata
from holdfast.errors import ConflictError

VERSION_TABLE = "hf_alembic_version"
_LOCK_NUMBER = 0x686F6C64  # one migrating server at a time on PostgreSQL


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def is_ours(_object: Any, name: str | None, kind: str, _reflected: bool, _to: Any) -> bool:
    """Alembic filter: tables of other owners in the same database are not ours to compare."""
    return kind != "table" or (name or "").startswith(PREFIX)


def newest_revision() -> str:
    """The revision this program's tables belong to."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def known_revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def current_revision(connection: Connection) -> str:
    """The database's revision; "" for an empty database."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision() or ""


def upgrade(engine: Engine, copies: Path | None = None, copied: str = "") -> str:
    """Migrate to the newest revision in one transaction; returns the path of the copy made, or "".

    ``copies``: the folder for a copy of PostgreSQL; ``copied``: a revision somebody copied by hand.
    ConflictError (CatalogTooNew) when a newer program wrote this catalog, (CatalogNotCopied) when
    no copy can be made: nothing is touched."""
    with engine.connect() as connection:
        found = current_revision(connection)
    if found == newest_revision():
        return ""
    if found and found not in known_revisions():
        raise ConflictError(
            f"the catalog is of revision {found}, which this version does not know",
            code="CatalogTooNew",
            hint="Start the newer version again, or put back the copy made before its upgrade.",
        )
    copy = copy_catalog(engine, found, copies) if found and found != copied else ""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_NUMBER})
        command.upgrade(config_on(connection), "head")
    return copy


def config_on(connection: Connection) -> Config:
    """Alembic's configuration for one transaction."""
    config = _config()
    config.attributes["connection"] = connection
    return config


def differences(connection: Connection) -> list[Any]:
    """How the database differs from the tables in code; empty when they agree."""
    options = {
        "version_table": VERSION_TABLE,
        "include_object": is_ours,
        "compare_type": True,
        "render_as_batch": True,
    }
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, metadata))
