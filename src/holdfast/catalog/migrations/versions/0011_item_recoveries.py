"""Recovery points that are open for reading files out of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, String

from holdfast.catalog.columns import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLE = "hf_item_recoveries"


def upgrade() -> None:
    op.create_table(
        TABLE,
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("item_id", String(36), nullable=False),
        Column("rp_id", String(64), nullable=False),
        Column("created_by", String(36), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("expires_at", UtcDateTime(), nullable=False),
        Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{TABLE}")),
    )
    op.create_index(f"ix_{TABLE}_item_id_rp_id", TABLE, ["item_id", "rp_id"])
    op.create_index(op.f(f"ix_{TABLE}_expires_at"), TABLE, ["expires_at"])


def downgrade() -> None:
    op.drop_table(TABLE)
