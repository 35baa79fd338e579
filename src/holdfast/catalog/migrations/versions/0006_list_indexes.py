"""Indexes for lists that are filtered (jobs by status or operation, items by policy), and counts of
what was done a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JOBS = {
    "ix_hf_jobs_vault_id_status_started_at_id": "status",
    "ix_hf_jobs_vault_id_operation_started_at_id": "operation",
}


def upgrade() -> None:
    for name, column in JOBS.items():
        op.create_index(name, "hf_jobs", ["vault_id", column, "started_at", "id"])
    op.create_index("ix_hf_items_policy_id_item_key", "hf_items", ["policy_id", "item_key"])
    op.drop_index("ix_hf_items_policy_id", "hf_items")
    op.create_table(
        "hf_daily_counts",
        sa.Column("subject_id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(30), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("hf_daily_counts")
    op.create_index("ix_hf_items_policy_id", "hf_items", ["policy_id"])
    op.drop_index("ix_hf_items_policy_id_item_key", "hf_items")
    for name in JOBS:
        op.drop_index(name, "hf_jobs")
