"""What an agent's session sent and asked, for the audit record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from holdfast.catalog.columns import BIG

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COUNTS = ("received_packs", "asked_ids", "present_ids")


def upgrade() -> None:
    with op.batch_alter_table("hf_agent_sessions") as table:
        for name in COUNTS:
            table.add_column(sa.Column(name, BIG, nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("hf_agent_sessions") as table:
        for name in COUNTS:
            table.drop_column(name)
