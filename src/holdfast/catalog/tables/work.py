"""Tables of what happens: jobs, their history and findings, operations, agent tasks, workers."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, text

from holdfast.catalog.columns import BIG, ID_CHARS, document, figure, identifier, metadata, moment

ACTIVE_STATUSES = ("InProgress", "Cancelling")
ACTIVE_SQL = "status IN ('InProgress', 'Cancelling')"  # literal, so that partial indexes serve it
_ACTIVE = text(ACTIVE_SQL)
_ACTIVE_BACKUP = text(f"kind = 'backup' AND {ACTIVE_SQL}")

jobs = Table(
    "hf_jobs",
    metadata,
    identifier(primary_key=True),
    Column("vault_id", ForeignKey("hf_vaults.id"), nullable=False),
    identifier("item_id", nullable=True),
    identifier("container_id", nullable=True),
    Column("kind", String(30), nullable=False),
    Column("operation", String(50), nullable=False),
    Column("entity_name", String(300), nullable=False),
    Column("status", String(30), nullable=False),
    Column("phase", String(50), nullable=False),
    Column("detail", Text, nullable=False),
    Column("scheduled", Boolean, nullable=False),
    moment("slot_at", nullable=True),
    document("parameters"),
    document("progress"),
    document("result"),
    figure("findings_count"),
    Column("attempt", Integer, nullable=False, default=1),
    Column("turn", Integer, nullable=False, default=0),
    Column("signals", Integer, nullable=False, default=0),
    moment("wake_at", nullable=True),
    Column("driver", String(100), nullable=False, default=""),
    moment("cancel_requested_at", nullable=True),
    Column("error_code", String(100), nullable=False),
    Column("error_message", Text, nullable=False),
    Column("error_hint", Text, nullable=False),
    Column("created_by", String(200), nullable=False),
    moment("started_at"),
    moment("updated_at"),
    moment("ended_at", nullable=True),
    Column("management_type", String(50), nullable=False, server_default="MAB"),
    Index("ix_hf_jobs_vault_id_started_at_id", "vault_id", "started_at", "id"),
    Index("ix_hf_jobs_vault_id_status_started_at_id", "vault_id", "status", "started_at", "id"),
    Index(
        "ix_hf_jobs_vault_id_operation_started_at_id", "vault_id", "operation", "started_at", "id"
    ),
    Index(
        "ix_hf_jobs_vault_id_management_type_started_at_id",
        "vault_id",
        "management_type",
        "started_at",
        "id",
    ),
    Index("ix_hf_jobs_item_id_started_at", "item_id", "started_at"),
    Index("ix_hf_jobs_ended_at", "ended_at"),
    Index("ix_hf_jobs_active", "wake_at", sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
    Index(
        "uq_hf_jobs_active_backup",
        "item_id",
        unique=True,
        sqlite_where=_ACTIVE_BACKUP,
        postgresql_where=_ACTIVE_BACKUP,
    ),
)

job_history = Table(
    "hf_job_history",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey("hf_jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    moment("at"),
    Column("event", String(50), nullable=False),
    Column("message", Text, nullable=False),
)

job_findings = Table(
    "hf_job_findings",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey("hf_jobs.id", ondelete="CASCADE"), nullable=False),
    Column("code", String(100), nullable=False),
    Column("path", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Index("uq_hf_job_findings_job_id_digest", "job_id", "digest", unique=True),
)

operations = Table(
    "hf_operations",
    metadata,
    identifier(primary_key=True),
    Column("scope", Text, nullable=False),
    Column("kind", String(50), nullable=False),
    Column("state", String(30), nullable=False),
    identifier("job_id", nullable=True),
    document("result"),
    document("error"),
    Column("created_by", String(200), nullable=False),
    moment("created_at", index=True),
    moment("ended_at", nullable=True),
    Index("ix_hf_operations_job_id", "job_id"),
)

agent_tasks = Table(
    "hf_agent_tasks",
    metadata,
    identifier(primary_key=True),
    identifier("job_id"),
    identifier("agent_id"),
    identifier("vault_id"),
    Column("kind", String(50), nullable=False),
    Column("item_key", String(610), nullable=False),
    document("payload"),
    Column("state", String(20), nullable=False),
    figure("fence"),
    moment("lease_until", nullable=True),
    Column("cancel_requested", Boolean, nullable=False),
    document("progress"),
    Column("outcome", String(20), nullable=False),
    document("error"),
    document("result"),
    moment("created_at"),
    moment("updated_at"),
    moment("ended_at", nullable=True),
    Index("ix_hf_agent_tasks_job_id", "job_id", unique=True),
    Index("ix_hf_agent_tasks_agent_id_state", "agent_id", "state"),
    Index("ix_hf_agent_tasks_state_lease_until", "state", "lease_until"),
)

agent_sessions = Table(
    "hf_agent_sessions",
    metadata,
    Column("id", String(32), primary_key=True),
    identifier("vault_id"),
    identifier("agent_id"),
    Column("task_id", ForeignKey("hf_agent_tasks.id", ondelete="CASCADE"), nullable=False),
    figure("fence"),
    Column("kind", String(20), nullable=False),
    figure("received_bytes"),
    figure("received_packs"),
    figure("asked_ids"),
    figure("present_ids"),
    moment("opened_at"),
    moment("closed_at", nullable=True),
    Index("ix_hf_agent_sessions_task_id", "task_id"),
)

maintenance_runs = Table(
    "hf_maintenance_runs",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("vault_id", ForeignKey("hf_vaults.id"), nullable=False),
    Column("kind", String(30), nullable=False),
    identifier("job_id", nullable=True),
    Column("status", String(30), nullable=False),
    Column("detail", Text, nullable=False),
    document("result"),
    moment("started_at"),
    moment("ended_at", nullable=True),
    Index("ix_hf_maintenance_runs_vault_id_kind_id", "vault_id", "kind", "id"),
)

daily_counts = Table(
    "hf_daily_counts",
    metadata,
    Column("subject_id", String(ID_CHARS), primary_key=True),
    Column("kind", String(30), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("number", Integer, nullable=False),
)

workers = Table(
    "hf_workers",
    metadata,
    Column("executor_id", String(100), primary_key=True),
    moment("lease_until", index=True),
    moment("started_at"),
)
