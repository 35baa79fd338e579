"""Virtual machines, what hosts report of them, folders to restore into; what kind of backup a job
belongs to, and what a recovery point says beside its figures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, String, Text

from holdfast.catalog.columns import BIG, DOCUMENT, UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

JOBS_INDEX = "ix_hf_jobs_vault_id_management_type_started_at_id"
TABLES = ("hf_storage_accounts", "hf_machine_reports", "hf_virtual_machines")


def upgrade() -> None:
    management = Column("management_type", String(50), nullable=False, server_default="MAB")
    op.add_column("hf_jobs", management)
    keys = ["vault_id", "management_type", "started_at", "id"]
    op.create_index(JOBS_INDEX, "hf_jobs", keys)
    details = Column("details", DOCUMENT, nullable=False, server_default=sa.text("'{}'"))
    op.add_column("hf_recovery_points", details)
    _create_machines()
    _create_reports()
    _create_accounts()


def downgrade() -> None:
    """Columns go in place: other tables refer to these, so they cannot be copied and dropped."""
    for name in TABLES:
        op.drop_table(name)
    op.execute("ALTER TABLE hf_recovery_points DROP COLUMN details")
    op.drop_index(JOBS_INDEX, "hf_jobs")
    op.execute("ALTER TABLE hf_jobs DROP COLUMN management_type")


def _moment(name: str) -> Column[object]:
    return Column(name, UtcDateTime(), nullable=False)


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}")
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=name)


def _create_machines() -> None:
    table, named = "hf_virtual_machines", ("subscription_id", "group_key", "name_key")
    op.create_table(
        table,
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("uuid", String(36), nullable=False),
        Column("subscription_id", String(36), nullable=False),
        Column("group_key", String(90), nullable=False),
        Column("name_key", String(64), nullable=False),
        Column("name", String(64), nullable=False),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        _refers(table, "vault_id", "hf_vaults"),
        sa.UniqueConstraint("vault_id", "uuid", name=op.f(f"uq_{table}_vault_id_uuid")),
        sa.UniqueConstraint(*named, name=op.f(f"uq_{table}_{'_'.join(named)}")),
    )


def _create_reports() -> None:
    table = "hf_machine_reports"
    op.create_table(
        table,
        Column("container_id", String(36), nullable=False),
        Column("uuid", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("name", String(200), nullable=False),
        Column("hypervisor", String(100), nullable=False),
        Column("power_state", String(20), nullable=False),
        Column("agent_state", String(20), nullable=False),
        Column("os_type", String(20), nullable=False),
        Column("processors", BIG, nullable=False),
        Column("memory_bytes", BIG, nullable=False),
        Column("disks", DOCUMENT, nullable=False),
        Column("tags", DOCUMENT, nullable=False),
        _moment("reported_at"),
        sa.PrimaryKeyConstraint("container_id", "uuid", name=op.f(f"pk_{table}")),
        _refers(table, "container_id", "hf_containers"),
    )
    op.create_index("ix_hf_machine_reports_vault_id_uuid", table, ["vault_id", "uuid"])


def _create_accounts() -> None:
    table, named = "hf_storage_accounts", ("subscription_id", "group_key", "name_key")
    op.create_table(
        table,
        Column("id", String(36), nullable=False),
        Column("subscription_id", String(36), nullable=False),
        Column("group_key", String(90), nullable=False),
        Column("name_key", String(24), nullable=False),
        Column("name", String(24), nullable=False),
        Column("container_id", String(36), nullable=False),
        Column("path", Text(), nullable=False),
        Column("tags", DOCUMENT, nullable=False),
        _moment("created_at"),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        _refers(table, "container_id", "hf_containers"),
        sa.UniqueConstraint(*named, name=op.f(f"uq_{table}_{'_'.join(named)}")),
    )
    op.create_index("ix_hf_storage_accounts_container_id", table, ["container_id"])
