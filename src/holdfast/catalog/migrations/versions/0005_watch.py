"""Alerts with their history, messages to be sent, and daily samples of usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, String, Text

from holdfast.catalog.columns import BIG, DOCUMENT, UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = (
    "hf_usage_samples",
    "hf_alert_settings",
    "hf_notifications",
    "hf_alert_history",
    "hf_alerts",
)
FIRED, UNSENT = sa.text("condition = 'Fired'"), sa.text("state = 'Pending'")


def upgrade() -> None:
    _create_alerts()
    _create_history()
    _create_notifications()
    _create_settings()
    _create_samples()


def downgrade() -> None:
    for name in TABLES:
        op.drop_table(name)


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, UtcDateTime(), nullable=nullable)


def _create_alerts() -> None:
    op.create_table(
        "hf_alerts",
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("rule", String(50), nullable=False),
        Column("about", String(400), nullable=False),
        Column("severity", sa.Integer(), nullable=False),
        Column("state", String(20), nullable=False),
        Column("condition", String(20), nullable=False),
        Column("subject", String(300), nullable=False),
        Column("message", Text(), nullable=False),
        Column("hint", Text(), nullable=False),
        Column("details", DOCUMENT, nullable=False),
        Column("occurrences", sa.Integer(), nullable=False),
        _moment("fired_at"),
        _moment("last_at"),
        _moment("resolved_at", nullable=True),
        _moment("changed_at"),
        Column("changed_by", String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_alerts")),
    )
    table = "hf_alerts"
    op.create_index("ix_hf_alerts_vault_id_fired_at_id", table, ["vault_id", "fired_at", "id"])
    op.create_index("ix_hf_alerts_resolved_at", table, ["resolved_at"])
    op.create_index(
        "uq_hf_alerts_fired",
        table,
        ["vault_id", "rule", "about"],
        unique=True,
        sqlite_where=FIRED,
        postgresql_where=FIRED,
    )


def _create_history() -> None:
    op.create_table(
        "hf_alert_history",
        Column("id", BIG, autoincrement=True, nullable=False),
        Column("alert_id", String(36), nullable=False),
        _moment("at"),
        Column("event", String(50), nullable=False),
        Column("old_value", String(50), nullable=False),
        Column("new_value", String(50), nullable=False),
        Column("by", String(200), nullable=False),
        Column("comment", Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["alert_id"],
            ["hf_alerts.id"],
            name=op.f("fk_hf_alert_history_alert_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_alert_history")),
    )
    op.create_index(op.f("ix_hf_alert_history_alert_id"), "hf_alert_history", ["alert_id"])


def _create_notifications() -> None:
    op.create_table(
        "hf_notifications",
        Column("id", BIG, autoincrement=True, nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("alert_id", String(36), nullable=False),
        Column("event", String(20), nullable=False),
        Column("channel", String(20), nullable=False),
        Column("target", Text(), nullable=False),
        Column("message", DOCUMENT, nullable=False),
        Column("state", String(20), nullable=False),
        Column("attempts", sa.Integer(), nullable=False),
        Column("claimed_by", String(100), nullable=False),
        Column("last_error", Text(), nullable=False),
        _moment("due_at"),
        _moment("created_at"),
        _moment("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_notifications")),
    )
    table = "hf_notifications"
    op.create_index(
        "ix_hf_notifications_due",
        table,
        ["due_at"],
        sqlite_where=UNSENT,
        postgresql_where=UNSENT,
    )
    op.create_index("ix_hf_notifications_ended_at", table, ["ended_at"])


def _create_settings() -> None:
    op.create_table(
        "hf_alert_settings",
        Column("vault_id", String(36), nullable=False),
        Column("emails", DOCUMENT, nullable=False),
        Column("severity", sa.Integer(), nullable=False),
        _moment("updated_at"),
        sa.PrimaryKeyConstraint("vault_id", name=op.f("pk_hf_alert_settings")),
    )


def _create_samples() -> None:
    op.create_table(
        "hf_usage_samples",
        Column("vault_id", String(36), nullable=False),
        Column("day", sa.Date(), nullable=False),
        Column("item_id", String(36), nullable=False),
        Column("logical_bytes", BIG, nullable=False),
        Column("stored_bytes", BIG, nullable=False),
        Column("recovery_points", BIG, nullable=False),
        sa.PrimaryKeyConstraint("vault_id", "day", "item_id", name=op.f("pk_hf_usage_samples")),
    )
