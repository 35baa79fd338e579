"""Whether a vault is immutable, and locked so."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = Column("immutability", String(20), nullable=False, server_default="Disabled")
    op.add_column("hf_vaults", column)


def downgrade() -> None:
    """The column goes in place: other tables refer to its own, so that cannot be copied."""
    op.execute("ALTER TABLE hf_vaults DROP COLUMN immutability")
