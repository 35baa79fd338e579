"""When deleted items and vaults go for good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from holdfast.catalog.columns import BIG, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("hf_items", "hf_vaults")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("deleted_at", UtcDateTime(), nullable=True))
        op.add_column(table, sa.Column("purge_at", UtcDateTime(), nullable=True))
        days = sa.Column("days_deleted", BIG, nullable=False, server_default="0")
        op.add_column(table, days)
    op.add_column("hf_items", sa.Column("soft_delete_days", sa.Integer(), nullable=True))


def downgrade() -> None:
    """In place: other tables refer to these, so they cannot be copied and dropped."""
    op.execute("ALTER TABLE hf_items DROP COLUMN soft_delete_days")
    for table in TABLES:
        for column in ("days_deleted", "purge_at", "deleted_at"):
            op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
