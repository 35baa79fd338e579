"""What a vault is to know of its items, and recovery points that a shorter retention dropped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from holdfast.catalog.columns import BIG, UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COUNTS = ("life_version", "life_written")
MOMENTS = ("promised_until", "purge_at")


def upgrade() -> None:
    for name in COUNTS:
        count = sa.Column(name, BIG, nullable=False, server_default="0")
        op.add_column("hf_vaults", count)
    op.execute("UPDATE hf_vaults SET life_version = 1")
    for name in MOMENTS:
        op.add_column("hf_recovery_points", sa.Column(name, UtcDateTime(), nullable=True))


def downgrade() -> None:
    """In place: other tables refer to these, so they cannot be copied and dropped."""
    for name in COUNTS:
        op.execute(f"ALTER TABLE hf_vaults DROP COLUMN {name}")
    for name in MOMENTS:
        op.execute(f"ALTER TABLE hf_recovery_points DROP COLUMN {name}")
