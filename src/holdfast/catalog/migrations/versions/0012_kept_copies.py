"""Local copies of machines' disks, as their hosts report them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from holdfast.catalog.columns import DOCUMENT

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLE = "hf_machine_reports"


def upgrade() -> None:
    kept = sa.Column("kept", DOCUMENT, nullable=False, server_default=sa.text("'[]'"))
    op.add_column(TABLE, kept)


def downgrade() -> None:
    op.execute(f"ALTER TABLE {TABLE} DROP COLUMN kept")
