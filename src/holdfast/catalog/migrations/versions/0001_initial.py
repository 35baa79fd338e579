"""The first catalog: every table of release 0.1."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

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
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("agent_id", sa.String(length=36), nullable=False),
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("item_key", sa.String(length=610), nullable=False),
        sa.Column("payload", DOCUMENT, nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("fence", BIG, nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("progress", DOCUMENT, nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("error", DOCUMENT, nullable=False),
        sa.Column("result", DOCUMENT, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_agent_tasks")),
    )
    op.create_index(
        "ix_hf_agent_tasks_agent_id_state", "hf_agent_tasks", ["agent_id", "state"], unique=False
    )
    op.create_index("ix_hf_agent_tasks_job_id", "hf_agent_tasks", ["job_id"], unique=True)


def _create_audit() -> None:
    op.create_table(
        "hf_audit",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("principal_id", sa.String(length=100), nullable=False),
        sa.Column("principal_name", sa.String(length=300), nullable=False),
        sa.Column("operation", sa.String(length=200), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("client_address", sa.String(length=100), nullable=False),
        sa.Column("request_id", sa.String(length=100), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("result_code", sa.String(length=100), nullable=False),
        sa.Column("details", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_audit")),
    )
    op.create_index("ix_hf_audit_at", "hf_audit", ["at"], unique=False)


def _create_meta() -> None:
    op.create_table(
        "hf_meta",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hf_meta")),
    )


def _create_operations() -> None:
    op.create_table(
        "hf_operations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("state", sa.String(length=30), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("result", DOCUMENT, nullable=False),
        sa.Column("error", DOCUMENT, nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_operations")),
    )
    op.create_index(
        op.f("ix_hf_operations_created_at"), "hf_operations", ["created_at"], unique=False
    )
    op.create_index("ix_hf_operations_job_id", "hf_operations", ["job_id"], unique=False)


def _create_principals() -> None:
    op.create_table(
        "hf_principals",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.String(length=36), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("disabled_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_principals")),
    )


def _create_regions() -> None:
    op.create_table(
        "hf_regions",
        sa.Column("name_key", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("store_url", sa.Text(), nullable=False),
        sa.Column("sealed_credentials", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=50), nullable=False),
        sa.Column("properties", DOCUMENT, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name_key", name=op.f("pk_hf_regions")),
    )


def _create_spent_tokens() -> None:
    op.create_table(
        "hf_spent_tokens",
        sa.Column("jti", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("spent_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_hf_spent_tokens")),
    )
    op.create_index(
        op.f("ix_hf_spent_tokens_expires_at"), "hf_spent_tokens", ["expires_at"], unique=False
    )


def _create_subscriptions() -> None:
    op.create_table(
        "hf_subscriptions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("display_name", sa.String(length=200), nullable=False),
        sa.Column("tenant_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_subscriptions")),
    )


def _create_vaults() -> None:
    op.create_table(
        "hf_vaults",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("subscription_id", sa.String(length=36), nullable=False),
        sa.Column("group_key", sa.String(length=90), nullable=False),
        sa.Column("name_key", sa.String(length=50), nullable=False),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("location", sa.String(length=100), nullable=False),
        sa.Column("region", sa.String(length=100), nullable=False),
        sa.Column("store_url", sa.Text(), nullable=False),
        sa.Column("unlock_kind", sa.String(length=30), nullable=False),
        sa.Column("state", sa.String(length=30), nullable=False),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("properties", DOCUMENT, nullable=False),
        sa.Column("etag", sa.String(length=64), nullable=False),
        sa.Column("head_sequence", BIG, nullable=False),
        sa.Column("head_hash", sa.String(length=64), nullable=False),
        sa.Column("key_exported_at", UtcDateTime(), nullable=True),
        sa.Column("next_maintenance_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_vaults")),
        sa.UniqueConstraint(
            "subscription_id",
            "group_key",
            "name_key",
            name=op.f("uq_hf_vaults_subscription_id_group_key_name_key"),
        ),
    )
    op.create_index(
        op.f("ix_hf_vaults_next_maintenance_at"), "hf_vaults", ["next_maintenance_at"], unique=False
    )


def _create_workers() -> None:
    op.create_table(
        "hf_workers",
        sa.Column("executor_id", sa.String(length=100), nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name=op.f("pk_hf_workers")),
    )
    op.create_index(op.f("ix_hf_workers_lease_until"), "hf_workers", ["lease_until"], unique=False)


def _create_containers() -> None:
    op.create_table(
        "hf_containers",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("name_key", sa.String(length=300), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("friendly_name", sa.String(length=300), nullable=False),
        sa.Column("management_type", sa.String(length=50), nullable=False),
        sa.Column("platform", sa.String(length=50), nullable=False),
        sa.Column("registration_status", sa.String(length=50), nullable=False),
        sa.Column("agent_id", sa.String(length=36), nullable=True),
        sa.Column("properties", DOCUMENT, nullable=False),
        sa.Column("registered_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
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
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("item_id", sa.String(length=36), nullable=True),
        sa.Column("container_id", sa.String(length=36), nullable=True),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("operation", sa.String(length=50), nullable=False),
        sa.Column("entity_name", sa.String(length=300), nullable=False),
        sa.Column("status", sa.String(length=30), nullable=False),
        sa.Column("phase", sa.String(length=50), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("scheduled", sa.Boolean(), nullable=False),
        sa.Column("slot_at", UtcDateTime(), nullable=True),
        sa.Column("parameters", DOCUMENT, nullable=False),
        sa.Column("progress", DOCUMENT, nullable=False),
        sa.Column("result", DOCUMENT, nullable=False),
        sa.Column("findings_count", BIG, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retry_at", UtcDateTime(), nullable=True),
        sa.Column("cancel_requested_at", UtcDateTime(), nullable=True),
        sa.Column("error_code", sa.String(length=100), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("error_hint", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_jobs_vault_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_jobs")),
    )
    op.create_index(
        "ix_hf_jobs_active",
        "hf_jobs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("status IN ('InProgress', 'Cancelling')"),
        postgresql_where=sa.text("status IN ('InProgress', 'Cancelling')"),
    )
    op.create_index("ix_hf_jobs_ended_at", "hf_jobs", ["ended_at"], unique=False)
    op.create_index(
        "ix_hf_jobs_item_id_started_at", "hf_jobs", ["item_id", "started_at"], unique=False
    )
    op.create_index(
        "ix_hf_jobs_vault_id_started_at_id",
        "hf_jobs",
        ["vault_id", "started_at", "id"],
        unique=False,
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
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=True),
        sa.Column("status", sa.String(length=30), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("result", DOCUMENT, nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_maintenance_runs_vault_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_maintenance_runs")),
    )
    op.create_index(
        "ix_hf_maintenance_runs_vault_id_kind_id",
        "hf_maintenance_runs",
        ["vault_id", "kind", "id"],
        unique=False,
    )


def _create_policies() -> None:
    op.create_table(
        "hf_policies",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("name_key", sa.String(length=150), nullable=False),
        sa.Column("name", sa.String(length=150), nullable=False),
        sa.Column("management_type", sa.String(length=50), nullable=False),
        sa.Column("properties", DOCUMENT, nullable=False),
        sa.Column("etag", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_policies_vault_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_policies")),
        sa.UniqueConstraint("vault_id", "name_key", name=op.f("uq_hf_policies_vault_id_name_key")),
    )


def _create_resource_groups() -> None:
    op.create_table(
        "hf_resource_groups",
        sa.Column("subscription_id", sa.String(length=36), nullable=False),
        sa.Column("name_key", sa.String(length=90), nullable=False),
        sa.Column("name", sa.String(length=90), nullable=False),
        sa.Column("location", sa.String(length=100), nullable=False),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
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
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("principal_id", sa.String(length=36), nullable=False),
        sa.Column("role", sa.String(length=100), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
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
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("secret_hash", sa.String(length=200), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_vault_credentials_vault_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_vault_credentials")),
    )
    op.create_index(
        op.f("ix_hf_vault_credentials_vault_id"), "hf_vault_credentials", ["vault_id"], unique=False
    )


def _create_agents() -> None:
    op.create_table(
        "hf_agents",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("container_id", sa.String(length=36), nullable=False),
        sa.Column("client_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("platform", sa.String(length=50), nullable=False),
        sa.Column("version", sa.String(length=50), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("properties", DOCUMENT, nullable=False),
        sa.Column("enrolled_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["container_id"], ["hf_containers.id"], name=op.f("fk_hf_agents_container_id")
        ),
        sa.ForeignKeyConstraint(["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_agents_vault_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_agents")),
        sa.UniqueConstraint("client_id", name=op.f("uq_hf_agents_client_id")),
    )
    op.create_index(op.f("ix_hf_agents_container_id"), "hf_agents", ["container_id"], unique=False)
    op.create_index(op.f("ix_hf_agents_vault_id"), "hf_agents", ["vault_id"], unique=False)


def _create_items() -> None:
    op.create_table(
        "hf_items",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("container_id", sa.String(length=36), nullable=False),
        sa.Column("policy_id", sa.String(length=36), nullable=True),
        sa.Column("name_key", sa.String(length=300), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("friendly_name", sa.String(length=300), nullable=False),
        sa.Column("item_key", sa.String(length=610), nullable=False),
        sa.Column("workload_type", sa.String(length=50), nullable=False),
        sa.Column("protection_state", sa.String(length=50), nullable=False),
        sa.Column("include_paths", DOCUMENT, nullable=False),
        sa.Column("exclude_globs", DOCUMENT, nullable=False),
        sa.Column("properties", DOCUMENT, nullable=False),
        sa.Column("missed_ranges", DOCUMENT, nullable=False),
        sa.Column("next_run_at", UtcDateTime(), nullable=True),
        sa.Column("last_slot_at", UtcDateTime(), nullable=True),
        sa.Column("last_backup_at", UtcDateTime(), nullable=True),
        sa.Column("last_backup_status", sa.String(length=50), nullable=False),
        sa.Column("last_job_id", sa.String(length=36), nullable=True),
        sa.Column("last_error_code", sa.String(length=100), nullable=False),
        sa.Column("latest_point_id", sa.String(length=40), nullable=False),
        sa.Column("latest_point_at", UtcDateTime(), nullable=True),
        sa.Column("etag", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
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
    op.create_index("ix_hf_items_next_run_at", "hf_items", ["next_run_at"], unique=False)
    op.create_index(op.f("ix_hf_items_policy_id"), "hf_items", ["policy_id"], unique=False)
    op.create_index(
        "ix_hf_items_vault_id_item_key", "hf_items", ["vault_id", "item_key"], unique=True
    )


def _create_job_findings() -> None:
    op.create_table(
        "hf_job_findings",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
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
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("event", sa.String(length=50), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["hf_jobs.id"], name=op.f("fk_hf_job_history_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_job_history")),
    )
    op.create_index(op.f("ix_hf_job_history_job_id"), "hf_job_history", ["job_id"], unique=False)


def _create_recovery_points() -> None:
    op.create_table(
        "hf_recovery_points",
        sa.Column("vault_id", sa.String(length=36), nullable=False),
        sa.Column("rp_id", sa.String(length=40), nullable=False),
        sa.Column("item_id", sa.String(length=36), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("time", UtcDateTime(), nullable=False),
        sa.Column("type", sa.String(length=50), nullable=False),
        sa.Column("scheduled", sa.Boolean(), nullable=False),
        sa.Column("tags", DOCUMENT, nullable=False),
        sa.Column("retain_until", UtcDateTime(), nullable=True),
        sa.Column("logical_bytes", BIG, nullable=False),
        sa.Column("transferred_bytes", BIG, nullable=False),
        sa.Column("stored_bytes", BIG, nullable=False),
        sa.Column("file_count", BIG, nullable=False),
        sa.Column("findings_count", BIG, nullable=False),
        sa.Column("consistency", sa.String(length=50), nullable=False),
        sa.Column("consistency_reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"], ["hf_items.id"], name=op.f("fk_hf_recovery_points_item_id")
        ),
        sa.ForeignKeyConstraint(
            ["vault_id"], ["hf_vaults.id"], name=op.f("fk_hf_recovery_points_vault_id")
        ),
        sa.PrimaryKeyConstraint("vault_id", "rp_id", name=op.f("pk_hf_recovery_points")),
    )
    op.create_index(
        "ix_hf_recovery_points_item_id_rp_id",
        "hf_recovery_points",
        ["item_id", "rp_id"],
        unique=False,
    )
    op.create_index("ix_hf_recovery_points_job_id", "hf_recovery_points", ["job_id"], unique=False)


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
