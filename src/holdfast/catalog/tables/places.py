"""Tables of what a user configures: groups, regions, vaults, policies, containers, items, points.

``*_key`` columns hold a name in lower case: names are unique without regard to case and are shown
as given first.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from holdfast.catalog.columns import DOCUMENT, document, figure, identifier, metadata, moment

meta = Table(
    "hf_meta",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("value", Text, nullable=False),
)

subscriptions = Table(
    "hf_subscriptions",
    metadata,
    identifier(primary_key=True),
    Column("display_name", String(200), nullable=False),
    identifier("tenant_id"),
    moment("created_at"),
)

resource_groups = Table(
    "hf_resource_groups",
    metadata,
    Column("subscription_id", ForeignKey("hf_subscriptions.id"), primary_key=True),
    Column("name_key", String(90), primary_key=True),
    Column("name", String(90), nullable=False),
    Column("location", String(100), nullable=False),
    document("tags"),
    moment("created_at"),
)

regions = Table(
    "hf_regions",
    metadata,
    Column("name_key", String(100), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("store_url", Text, nullable=False),
    Column("sealed_credentials", Text, nullable=True),
    Column("state", String(50), nullable=False),
    document("properties"),
    moment("created_at"),
    moment("updated_at"),
)

vaults = Table(
    "hf_vaults",
    metadata,
    identifier(primary_key=True),
    identifier("subscription_id"),
    Column("group_key", String(90), nullable=False),
    Column("name_key", String(50), nullable=False),
    Column("name", String(50), nullable=False),
    Column("location", String(100), nullable=False),
    Column("region", String(100), nullable=False),
    Column("store_url", Text, nullable=False),
    Column("unlock_kind", String(30), nullable=False),
    Column("state", String(30), nullable=False),
    document("tags"),
    document("properties"),
    Column("etag", String(64), nullable=False),
    figure("head_sequence"),
    Column("head_hash", String(64), nullable=False, default=""),
    moment("key_exported_at", nullable=True),
    moment("next_maintenance_at", nullable=True, index=True),
    moment("created_at"),
    moment("updated_at"),
    moment("deleted_at", nullable=True),
    moment("purge_at", nullable=True),
    figure("days_deleted"),
    figure("life_version"),
    figure("life_written"),
    figure("head_term"),
    Column("immutability", String(20), nullable=False, default="Disabled"),
    UniqueConstraint("subscription_id", "group_key", "name_key"),
)

policies = Table(
    "hf_policies",
    metadata,
    identifier(primary_key=True),
    Column("vault_id", ForeignKey("hf_vaults.id"), nullable=False),
    Column("name_key", String(150), nullable=False),
    Column("name", String(150), nullable=False),
    Column("management_type", String(50), nullable=False),
    document("properties"),
    Column("etag", String(64), nullable=False),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("vault_id", "name_key"),
)

containers = Table(
    "hf_containers",
    metadata,
    identifier(primary_key=True),
    Column("vault_id", ForeignKey("hf_vaults.id"), nullable=False),
    Column("name_key", String(300), nullable=False),
    Column("name", String(300), nullable=False),
    Column("friendly_name", String(300), nullable=False),
    Column("management_type", String(50), nullable=False),
    Column("platform", String(50), nullable=False),
    Column("registration_status", String(50), nullable=False),
    identifier("agent_id", nullable=True),
    document("properties"),
    moment("registered_at"),
    moment("updated_at"),
    UniqueConstraint("vault_id", "name_key"),
)

items = Table(
    "hf_items",
    metadata,
    identifier(primary_key=True),
    Column("vault_id", ForeignKey("hf_vaults.id"), nullable=False),
    Column("container_id", ForeignKey("hf_containers.id"), nullable=False),
    Column("policy_id", ForeignKey("hf_policies.id"), nullable=True),
    Column("name_key", String(300), nullable=False),
    Column("name", String(300), nullable=False),
    Column("friendly_name", String(300), nullable=False),
    Column("item_key", String(610), nullable=False),
    Column("workload_type", String(50), nullable=False),
    Column("protection_state", String(50), nullable=False),
    document("include_paths"),
    document("exclude_globs"),
    document("properties"),
    document("missed_ranges"),
    moment("next_run_at", nullable=True),
    moment("last_slot_at", nullable=True),
    moment("last_backup_at", nullable=True),
    Column("last_backup_status", String(50), nullable=False, default=""),
    identifier("last_job_id", nullable=True),
    Column("last_error_code", String(100), nullable=False, default=""),
    Column("latest_point_id", String(40), nullable=False, default=""),
    moment("latest_point_at", nullable=True),
    Column("etag", String(64), nullable=False),
    moment("created_at"),
    moment("updated_at"),
    moment("deleted_at", nullable=True),
    moment("purge_at", nullable=True),
    figure("days_deleted"),
    Column("soft_delete_days", Integer, nullable=True),
    moment("scheduled_since", nullable=True),
    UniqueConstraint("container_id", "name_key"),
    Index("ix_hf_items_vault_id_item_key", "vault_id", "item_key", unique=True),
    Index("ix_hf_items_policy_id_item_key", "policy_id", "item_key"),
    Index("ix_hf_items_next_run_at", "next_run_at"),
)

recovery_points = Table(
    "hf_recovery_points",
    metadata,
    Column("vault_id", ForeignKey("hf_vaults.id"), primary_key=True),
    Column("rp_id", String(40), primary_key=True),
    Column("item_id", ForeignKey("hf_items.id"), nullable=False),
    identifier("job_id"),
    figure("sequence"),
    moment("time"),
    Column("type", String(50), nullable=False),
    Column("scheduled", Boolean, nullable=False),
    document("tags"),
    moment("retain_until", nullable=True),
    moment("promised_until", nullable=True),
    moment("purge_at", nullable=True),
    figure("logical_bytes"),
    figure("transferred_bytes"),
    figure("stored_bytes"),
    figure("file_count"),
    figure("findings_count"),
    Column("consistency", String(50), nullable=False),
    Column("consistency_reason", Text, nullable=False),
    Column("details", DOCUMENT, nullable=False, server_default=text("'{}'")),
    Index("ix_hf_recovery_points_item_id_rp_id", "item_id", "rp_id"),
    Index("ix_hf_recovery_points_job_id", "job_id"),
)
