"""Webhooks that a vault's alerts are sent to besides the server's; since when an item's schedule
counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from holdfast.catalog.columns import UtcDateTime

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    added = sa.Column("webhooks", sa.JSON, nullable=False, server_default=sa.text("'[]'"))
    op.add_column("hf_alert_settings", added)
    op.add_column("hf_items", sa.Column("scheduled_since", UtcDateTime(), nullable=True))


def downgrade() -> None:
    """In place: other tables refer to items, so they cannot be copied and dropped."""
    op.execute("ALTER TABLE hf_items DROP COLUMN scheduled_since")
    op.execute("ALTER TABLE hf_alert_settings DROP COLUMN webhooks")
