"""Tables of what is watched: alerts, their history, messages to be sent, samples of usage."""

from __future__ import annotations

from sqlalchemy import Column, Date, ForeignKey, Index, Integer, String, Table, Text, text

from holdfast.catalog.columns import BIG, document, figure, identifier, metadata, moment

FIRED_SQL = "condition = 'Fired'"  # literal, so that partial indexes serve it
UNSENT_SQL = "state = 'Pending'"
_FIRED, _UNSENT = text(FIRED_SQL), text(UNSENT_SQL)

alerts = Table(
    "hf_alerts",
    metadata,
    identifier(primary_key=True),
    identifier("vault_id"),
    Column("rule", String(50), nullable=False),
    Column("about", String(400), nullable=False),
    Column("severity", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("condition", String(20), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("message", Text, nullable=False),
    Column("hint", Text, nullable=False),
    document("details"),
    Column("occurrences", Integer, nullable=False, default=1),
    moment("fired_at"),
    moment("last_at"),
    moment("resolved_at", nullable=True),
    moment("changed_at"),
    Column("changed_by", String(200), nullable=False),
    Index("ix_hf_alerts_vault_id_fired_at_id", "vault_id", "fired_at", "id"),
    Index("ix_hf_alerts_resolved_at", "resolved_at"),
    Index(
        "uq_hf_alerts_fired",
        "vault_id",
        "rule",
        "about",
        unique=True,
        sqlite_where=_FIRED,
        postgresql_where=_FIRED,
    ),
)

alert_history = Table(
    "hf_alert_history",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("alert_id", ForeignKey("hf_alerts.id", ondelete="CASCADE"), nullable=False, index=True),
    moment("at"),
    Column("event", String(50), nullable=False),
    Column("old_value", String(50), nullable=False),
    Column("new_value", String(50), nullable=False),
    Column("by", String(200), nullable=False),
    Column("comment", Text, nullable=False),
)

notifications = Table(
    "hf_notifications",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    identifier("vault_id"),
    identifier("alert_id"),
    Column("event", String(20), nullable=False),
    Column("channel", String(20), nullable=False),
    Column("target", Text, nullable=False),
    document("message"),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("claimed_by", String(100), nullable=False),
    Column("last_error", Text, nullable=False),
    moment("due_at"),
    moment("created_at"),
    moment("ended_at", nullable=True),
    Index("ix_hf_notifications_due", "due_at", sqlite_where=_UNSENT, postgresql_where=_UNSENT),
    Index("ix_hf_notifications_ended_at", "ended_at"),
)

alert_settings = Table(
    "hf_alert_settings",
    metadata,
    identifier("vault_id", primary_key=True),
    document("emails"),
    document("webhooks"),
    Column("severity", Integer, nullable=False),
    moment("updated_at"),
)

usage_samples = Table(
    "hf_usage_samples",
    metadata,
    identifier("vault_id", primary_key=True),
    Column("day", Date, primary_key=True),
    Column("item_id", String(36), primary_key=True),
    figure("logical_bytes"),
    figure("stored_bytes"),
    figure("recovery_points"),
)
