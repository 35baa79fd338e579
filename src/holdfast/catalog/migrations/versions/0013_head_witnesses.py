"""The term of the newest head of a vault's log that was seen, and which heads agents saw."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, String

from holdfast.catalog.columns import BIG, UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLE = "hf_head_witnesses"


def upgrade() -> None:
    op.add_column("hf_vaults", Column("head_term", BIG, nullable=False, server_default="0"))
    op.create_table(
        TABLE,
        Column("vault_id", String(36), nullable=False),
        Column("container_id", String(36), nullable=False),
        Column("named", String(300), nullable=False),
        Column("sequence", BIG, nullable=False),
        Column("term", BIG, nullable=False),
        Column("hash", String(64), nullable=False),
        Column("seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("vault_id", "container_id", name=op.f(f"pk_{TABLE}")),
    )


def downgrade() -> None:
    """The column goes in place: other tables refer to its own, so that cannot be copied."""
    op.drop_table(TABLE)
    op.execute("ALTER TABLE hf_vaults DROP COLUMN head_term")
