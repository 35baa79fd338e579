"""Alembic's entry: runs inside the transaction that ``catalog.migrate.upgrade`` opened."""

from __future__ import annotations

from alembic import context

from holdfast.catalog.migrate import VERSION_TABLE, is_ours
from holdfast.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_object=is_ours,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
