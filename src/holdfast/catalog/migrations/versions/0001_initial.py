"""The first catalog: every table of release 0.1."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, String, Text

from holdfast.catalog.columns import BIG, DOCUMENT, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "hf_recovery_points",
    "hf_job_history",
    "hf_job_findings",
    "hf_items",
    "hf_agents",
    "hf_vault_credentials",
    "hf_role_assignments",
    "hf_resource_groups",
    "hf_policies",
    "hf_maintenance_runs",
    "hf_jobs",
    "hf_containers",
    "hf_agent_sessions",
    "hf_workers",
    "hf_vaults",
    "hf_subscriptions",
    "hf_spent_tokens",
    "hf_regions",
    "hf_principals",
    "hf_operations",
    "hf_meta",
    "hf_audit",
    "hf_agent_tasks",
)


def _create_agent_tasks() -> None:
    op.create_table(
        "hf_agent_tasks",
        Column("id", String(36), nullable=False),
        Column("job_id", String(36), nullable=False),
        Column("agent_id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("kind", String(50), nullable=False),
        Column("item_key", String(610), nullable=False),
        Column("payload", DOCUMENT, nullable=False),
        Column("state", String(20), nullable=False),
        Column("fence", BIG, nullable=False),
        Column("lease_until", UtcDateTime(), nullable=True),
        Column("cancel_requested", sa.Boolean(), nullable=False),
        Column("progress", DOCUMENT, nullable=False),
        Column("outcome", String(20), nullable=False),
        Column("error", DOCUMENT, nullable=False),
        Column("result", DOCUMENT, nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
        Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_agent_tasks")),
    )
    op.create_index("ix_hf_agent_tasks_agent_id_state", "hf_agent_tasks", ["agent_id", "state"])
    op.create_index("ix_hf_agent_tasks_job_id", "hf_agent_tasks", ["job_id"], unique=True)
    op.create_index(
        "ix_hf_agent_tasks_state_lease_until", "hf_agent_tasks", ["state", "lease_until"]
    )


def _create_audit() -> None:
    op.create_table(
        "hf_audit",
        Column("id", BIG, autoincrement=True, nullable=False),
        Column("at", UtcDateTime(), nullable=False),
        Column("principal_id", String(100), nullable=False),
        Column("principal_name", String(300), nullable=False),
        Column("operation", String(200), nullable=False),
        Column("resource", Text(), nullable=False),
        Column("client_address", String(100), nullable=False),
        Column("request_id", String(100), nullable=False),
        Column("status", sa.Integer(), nullable=False),
        Column("result_code", String(100), nullable=False),
        Column("details", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_audit")),
    )
    op.create_index("ix_hf_audit_at", "hf_audit", ["at"])


def _create_meta() -> None:
    op.create_table(
        "hf_meta",
        Column("name", String(100), nullable=False),
        Column("value", Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hf_meta")),
    )


def _create_operations() -> None:
    op.create_table(
        "hf_operations",
        Column("id", String(36), nullable=False),
        Column("scope", Text(), nullable=False),
        Column("kind", String(50), nullable=False),
        Column("state", String(30), nullable=False),
        Column("job_id", String(36), nullable=True),
        Column("result", DOCUMENT, nullable=False),
        Column("error", DOCUMENT, nullable=False),
        Column("created_by", String(200), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_operations")),
    )
    op.create_index("ix_hf_operations_created_at", "hf_operations", ["created_at"])
    op.create_index("ix_hf_operations_job_id", "hf_operations", ["job_id"])


def _create_principals() -> None:
    op.create_table(
        "hf_principals",
        Column("id", String(36), nullable=False),
        Column("kind", String(30), nullable=False),
        Column("name", String(300), nullable=False),
        Column("secret_hash", Text(), nullable=False),
        Column("public_key", Text(), nullable=False),
        Column("agent_id", String(36), nullable=True),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("disabled_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_principals")),
    )


def _create_regions() -> None:
    op.create_table(
        "hf_regions",
        Column("name_key", String(100), nullable=False),
        Column("name", String(100), nullable=False),
        Column("store_url", Text(), nullable=False),
        Column("sealed_credentials", Text(), nullable=True),
        Column("state", String(50), nullable=False),
        Column("properties", DOCUMENT, nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name_key", name=op.f("pk_hf_regions")),
    )


def _create_spent_tokens() -> None:
    op.create_table(
        "hf_spent_tokens",
        Column("jti", String(200), nullable=False),
        Column("kind", String(20), nullable=False),
        Column("expires_at", UtcDateTime(), nullable=False),
        Column("spent_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_hf_spent_tokens")),
    )
    op.create_index("ix_hf_spent_tokens_expires_at", "hf_spent_tokens", ["expires_at"])


def _create_subscriptions() -> None:
    op.create_table(
        "hf_subscriptions",
        Column("id", String(36), nullable=False),
        Column("display_name", String(200), nullable=False),
        Column("tenant_id", String(36), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_subscriptions")),
    )


def _create_vaults() -> None:
    op.create_table(
        "hf_vaults",
        Column("id", String(36), nullable=False),
        Column("subscription_id", String(36), nullable=False),
        Column("group_key", String(90), nullable=False),
        Column("name_key", String(50), nullable=False),
        Column("name", String(50), nullable=False),
        Column("location", String(100), nullable=False),
        Column("region", String(100), nullable=False),
        Column("store_url", Text(), nullable=False),
        Column("unlock_kind", String(30), nullable=False),
        Column("state", String(30), nullable=False),
        Column("tags", DOCUMENT, nullable=False),
        Column("properties", DOCUMENT, nullable=False),
        Column("etag", String(64), nullable=False),
        Column("head_sequence", BIG, nullable=False),
        Column("head_hash", String(64), nullable=False),
        Column("key_exported_at", UtcDateTime(), nullable=True),
        Column("next_maintenance_at", UtcDateTime(), nullable=True),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_vaults")),
        sa.UniqueConstraint(
            "subscription_id",
            "group_key",
            "name_key",
            name=op.f("uq_hf_vaults_subscription_id_group_key_name_key"),
        ),
    )
    op.create_index("ix_hf_vaults_next_maintenance_at", "hf_vaults", ["next_maintenance_at"])


def _create_workers() -> None:
    op.create_table(
        "hf_workers",
        Column("executor_id", String(100), nullable=False),
        Column("lease_until", UtcDateTime(), nullable=False),
        Column("started_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name=op.f("pk_hf_workers")),
    )
    op.create_index("ix_hf_workers_lease_until", "hf_workers", ["lease_until"])


def _create_agent_sessions() -> None:
    op.create_table(
        "hf_agent_sessions",
        Column("id", String(32), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("agent_id", String(36), nullable=False),
        Column("task_id", String(36), nullable=False),
        Column("fence", BIG, nullable=False),
        Column("kind", String(20), nullable=False),
        Column("received_bytes", BIG, nullable=False),
        Column("opened_at", UtcDateTime(), nullable=False),
        Column("closed_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["hf_agent_tasks.id"],
            name=op.f("fk_hf_agent_sessions_task_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_agent_sessions")),
    )
    op.create_index("ix_hf_agent_sessions_task_id", "hf_agent_sessions", ["task_id"])


def _create_containers() -> None:
    op.create_table(
        "hf_containers",
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("name_key", String(300), nullable=False),
        Column("name", String(300), nullable=False),
        Column("friendly_name", String(300), nullable=False),
        Column("management_type", String(50), nullable=False),
        Column("platform", String(50), nullable=False),
        Column("registration_status", String(50), nullable=False),
        Column("agent_id", String(36), nullable=True),
        Column("properties", DOCUMENT, nullable=False),
        Column("registered_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_containers_vault_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_containers")),
        sa.UniqueConstraint(
            "vault_id", "name_key", name=op.f("uq_hf_containers_vault_id_name_key")
        ),
    )


def _create_jobs() -> None:
    op.create_table(
        "hf_jobs",
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("item_id", String(36), nullable=True),
        Column("container_id", String(36), nullable=True),
        Column("kind", String(30), nullable=False),
        Column("operation", String(50), nullable=False),
        Column("entity_name", String(300), nullable=False),
        Column("status", String(30), nullable=False),
        Column("phase", String(50), nullable=False),
        Column("detail", Text(), nullable=False),
        Column("scheduled", sa.Boolean(), nullable=False),
        Column("slot_at", UtcDateTime(), nullable=True),
        Column("parameters", DOCUMENT, nullable=False),
        Column("progress", DOCUMENT, nullable=False),
        Column("result", DOCUMENT, nullable=False),
        Column("findings_count", BIG, nullable=False),
        Column("attempt", sa.Integer(), nullable=False),
        Column("turn", sa.Integer(), nullable=False),
        Column("signals", sa.Integer(), nullable=False),
        Column("wake_at", UtcDateTime(), nullable=True),
        Column("driver", String(100), nullable=False),
        Column("cancel_requested_at", UtcDateTime(), nullable=True),
        Column("error_code", String(100), nullable=False),
        Column("error_message", Text(), nullable=False),
        Column("error_hint", Text(), nullable=False),
        Column("created_by", String(200), nullable=False),
        Column("started_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
        Column("ended_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_jobs_vault_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_jobs")),
    )
    op.create_index(
        "ix_hf_jobs_active",
        "hf_jobs",
        ["wake_at"],
        sqlite_where=sa.text("status IN ('InProgress', 'Cancelling')"),
        postgresql_where=sa.text("status IN ('InProgress', 'Cancelling')"),
    )
    op.create_index("ix_hf_jobs_ended_at", "hf_jobs", ["ended_at"])
    op.create_index("ix_hf_jobs_item_id_started_at", "hf_jobs", ["item_id", "started_at"])
    op.create_index(
        "ix_hf_jobs_vault_id_started_at_id", "hf_jobs", ["vault_id", "started_at", "id"]
    )
    op.create_index(
        "uq_hf_jobs_active_backup",
        "hf_jobs",
        ["item_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'backup' AND status IN ('InProgress', 'Cancelling')"),
        postgresql_where=sa.text("kind = 'backup' AND status IN ('InProgress', 'Cancelling')"),
    )


def _create_maintenance_runs() -> None:
    op.create_table(
        "hf_maintenance_runs",
        Column("id", BIG, autoincrement=True, nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("kind", String(30), nullable=False),
        Column("job_id", String(36), nullable=True),
        Column("status", String(30), nullable=False),
        Column("detail", Text(), nullable=False),
        Column("result", DOCUMENT, nullable=False),
        Column("started_at", UtcDateTime(), nullable=False),
        Column("ended_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_maintenance_runs_vault_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_maintenance_runs")),
    )
    op.create_index(
        "ix_hf_maintenance_runs_vault_id_kind_id", "hf_maintenance_runs", ["vault_id", "kind", "id"]
    )


def _create_policies() -> None:
    op.create_table(
        "hf_policies",
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("name_key", String(150), nullable=False),
        Column("name", String(150), nullable=False),
        Column("management_type", String(50), nullable=False),
        Column("properties", DOCUMENT, nullable=False),
        Column("etag", String(64), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_policies_vault_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_policies")),
        sa.UniqueConstraint("vault_id", "name_key", name=op.f("uq_hf_policies_vault_id_name_key")),
    )


def _create_resource_groups() -> None:
    op.create_table(
        "hf_resource_groups",
        Column("subscription_id", String(36), nullable=False),
        Column("name_key", String(90), nullable=False),
        Column("name", String(90), nullable=False),
        Column("location", String(100), nullable=False),
        Column("tags", DOCUMENT, nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["hf_subscriptions.id"],
            name=op.f("fk_hf_resource_groups_subscription_id"),
        ),
        sa.PrimaryKeyConstraint("subscription_id", "name_key", name=op.f("pk_hf_resource_groups")),
    )


def _create_role_assignments() -> None:
    op.create_table(
        "hf_role_assignments",
        Column("id", String(36), nullable=False),
        Column("principal_id", String(36), nullable=False),
        Column("role", String(100), nullable=False),
        Column("scope", Text(), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["hf_principals.id"], name=op.f("fk_hf_role_assignments_principal_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_role_assignments")),
        sa.UniqueConstraint(
            "principal_id",
            "role",
            "scope",
            name=op.f("uq_hf_role_assignments_principal_id_role_scope"),
        ),
    )


def _create_vault_credentials() -> None:
    op.create_table(
        "hf_vault_credentials",
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("secret_hash", String(200), nullable=False),
        Column("created_by", String(200), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("expires_at", UtcDateTime(), nullable=False),
        Column("used_at", UtcDateTime(), nullable=True),
        Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_vault_credentials_vault_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_vault_credentials")),
    )
    op.create_index("ix_hf_vault_credentials_vault_id", "hf_vault_credentials", ["vault_id"])


def _create_agents() -> None:
    op.create_table(
        "hf_agents",
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("container_id", String(36), nullable=False),
        Column("client_id", String(36), nullable=False),
        Column("host", String(255), nullable=False),
        Column("platform", String(50), nullable=False),
        Column("version", String(50), nullable=False),
        Column("public_key", Text(), nullable=False),
        Column("properties", DOCUMENT, nullable=False),
        Column("enrolled_at", UtcDateTime(), nullable=False),
        Column("last_seen_at", UtcDateTime(), nullable=False),
        Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["container_id"], ["hf_containers.id"], name=op.f("fk_hf_agents_container_id")
        ),
        sa.ForeignKeyConstraint(["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_agents_vault_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_agents")),
        sa.UniqueConstraint("client_id", name=op.f("uq_hf_agents_client_id")),
    )
    op.create_index("ix_hf_agents_container_id", "hf_agents", ["container_id"])
    op.create_index("ix_hf_agents_vault_id", "hf_agents", ["vault_id"])


def _create_items() -> None:
    op.create_table(
        "hf_items",
        Column("id", String(36), nullable=False),
        Column("vault_id", String(36), nullable=False),
        Column("container_id", String(36), nullable=False),
        Column("policy_id", String(36), nullable=True),
        Column("name_key", String(300), nullable=False),
        Column("name", String(300), nullable=False),
        Column("friendly_name", String(300), nullable=False),
        Column("item_key", String(610), nullable=False),
        Column("workload_type", String(50), nullable=False),
        Column("protection_state", String(50), nullable=False),
        Column("include_paths", DOCUMENT, nullable=False),
        Column("exclude_globs", DOCUMENT, nullable=False),
        Column("properties", DOCUMENT, nullable=False),
        Column("missed_ranges", DOCUMENT, nullable=False),
        Column("next_run_at", UtcDateTime(), nullable=True),
        Column("last_slot_at", UtcDateTime(), nullable=True),
        Column("last_backup_at", UtcDateTime(), nullable=True),
        Column("last_backup_status", String(50), nullable=False),
        Column("last_job_id", String(36), nullable=True),
        Column("last_error_code", String(100), nullable=False),
        Column("latest_point_id", String(40), nullable=False),
        Column("latest_point_at", UtcDateTime(), nullable=True),
        Column("etag", String(64), nullable=False),
        Column("created_at", UtcDateTime(), nullable=False),
        Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["container_id"], ["hf_containers.id"], name=op.f("fk_hf_items_container_id")
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["hf_policies.id"], name=op.f("fk_hf_items_policy_id")
        ),
        sa.ForeignKeyConstraint(["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_items_vault_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_items")),
        sa.UniqueConstraint(
            "container_id", "name_key", name=op.f("uq_hf_items_container_id_name_key")
        ),
    )
    op.create_index("ix_hf_items_next_run_at", "hf_items", ["next_run_at"])
    op.create_index("ix_hf_items_policy_id", "hf_items", ["policy_id"])
    op.create_index(
        "ix_hf_items_vault_id_item_key", "hf_items", ["vault_id", "item_key"], unique=True
    )


def _create_job_findings() -> None:
    op.create_table(
        "hf_job_findings",
        Column("id", BIG, autoincrement=True, nullable=False),
        Column("job_id", String(36), nullable=False),
        Column("code", String(100), nullable=False),
        Column("path", Text(), nullable=False),
        Column("message", Text(), nullable=False),
        Column("digest", String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["hf_jobs.id"], name=op.f("fk_hf_job_findings_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_job_findings")),
    )
    op.create_index(
        "uq_hf_job_findings_job_id_digest", "hf_job_findings", ["job_id", "digest"], unique=True
    )


def _create_job_history() -> None:
    op.create_table(
        "hf_job_history",
        Column("id", BIG, autoincrement=True, nullable=False),
        Column("job_id", String(36), nullable=False),
        Column("at", UtcDateTime(), nullable=False),
        Column("event", String(50), nullable=False),
        Column("message", Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["hf_jobs.id"], name=op.f("fk_hf_job_history_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_job_history")),
    )
    op.create_index("ix_hf_job_history_job_id", "hf_job_history", ["job_id"])


def _create_recovery_points() -> None:
    op.create_table(
        "hf_recovery_points",
        Column("vault_id", String(36), nullable=False),
        Column("rp_id", String(40), nullable=False),
        Column("item_id", String(36), nullable=False),
        Column("job_id", String(36), nullable=False),
        Column("sequence", BIG, nullable=False),
        Column("time", UtcDateTime(), nullable=False),
        Column("type", String(50), nullable=False),
        Column("scheduled", sa.Boolean(), nullable=False),
        Column("tags", DOCUMENT, nullable=False),
        Column("retain_until", UtcDateTime(), nullable=True),
        Column("logical_bytes", BIG, nullable=False),
        Column("transferred_bytes", BIG, nullable=False),
        Column("stored_bytes", BIG, nullable=False),
        Column("file_count", BIG, nullable=False),
        Column("findings_count", BIG, nullable=False),
        Column("consistency", String(50), nullable=False),
        Column("consistency_reason", Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"], ["hf_items.id"], name=op.f("fk_hf_recovery_points_item_id")
        ),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_recovery_points_vault_id")
        ),
        sa.PrimaryKeyConstraint("vault_id", "rp_id", name=op.f("pk_hf_recovery_points")),
    )
    op.create_index(
        "ix_hf_recovery_points_item_id_rp_id", "hf_recovery_points", ["item_id", "rp_id"]
    )
    op.create_index("ix_hf_recovery_points_job_id", "hf_recovery_points", ["job_id"])


def upgrade() -> None:
    _create_agent_tasks()
    _create_audit()
    _create_meta()
    _create_operations()
    _create_principals()
    _create_regions()
    _create_spent_tokens()
    _create_subscriptions()
    _create_vaults()
    _create_workers()
    _create_agent_sessions()
    _create_containers()
    _create_jobs()
    _create_maintenance_runs()
    _create_policies()
    _create_resource_groups()
    _create_role_assignments()
    _create_vault_credentials()
    _create_agents()
    _create_items()
    _create_job_findings()
    _create_job_history()
    _create_recovery_points()


def downgrade() -> None:
    for name in TABLES:
        op.drop_table(name)
