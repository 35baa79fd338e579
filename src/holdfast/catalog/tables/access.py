"""Tables of who may do what, and of what was done."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from holdfast.catalog.columns import BIG, document, identifier, metadata, moment

agents = Table(
    "hf_agents",
    metadata,
    identifier(primary_key=True),
    Column("vault_id", ForeignKey("hf_vaults.id"), nullable=False, index=True),
    Column("container_id", ForeignKey("hf_containers.id"), nullable=False, index=True),
    identifier("client_id"),
    Column("host", String(255), nullable=False),
    Column("platform", String(50), nullable=False),
    Column("version", String(50), nullable=False),
    Column("public_key", Text, nullable=False),
    document("properties"),
    moment("enrolled_at"),
    moment("last_seen_at"),
    moment("revoked_at", nullable=True),
    UniqueConstraint("client_id"),
)

principals = Table(
    "hf_principals",
    metadata,
    identifier(primary_key=True),
    Column("kind", String(30), nullable=False),
    Column("name", String(300), nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    identifier("agent_id", nullable=True),
    moment("created_at"),
    moment("disabled_at", nullable=True),
)

role_assignments = Table(
    "hf_role_assignments",
    metadata,
    identifier(primary_key=True),
    Column("principal_id", ForeignKey("hf_principals.id"), nullable=False),
    Column("role", String(100), nullable=False),
    Column("scope", Text, nullable=False),
    moment("created_at"),
    UniqueConstraint("principal_id", "role", "scope"),
)

spent_tokens = Table(
    "hf_spent_tokens",
    metadata,
    Column("jti", String(200), primary_key=True),
    Column("kind", String(20), nullable=False),
    moment("expires_at", index=True),
    moment("spent_at"),
)

vault_credentials = Table(
    "hf_vault_credentials",
    metadata,
    identifier(primary_key=True),
    Column("vault_id", ForeignKey("hf_vaults.id"), nullable=False, index=True),
    Column("secret_hash", String(200), nullable=False),
    Column("created_by", String(200), nullable=False),
    moment("created_at"),
    moment("expires_at"),
    moment("used_at", nullable=True),
    moment("revoked_at", nullable=True),
)

audit = Table(
    "hf_audit",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    moment("at"),
    Column("principal_id", String(100), nullable=False),
    Column("principal_name", String(300), nullable=False),
    Column("operation", String(200), nullable=False),
    Column("resource", Text, nullable=False),
    Column("client_address", String(100), nullable=False),
    Column("request_id", String(100), nullable=False),
    Column("status", Integer, nullable=False),
    Column("result_code", String(100), nullable=False),
    document("details"),
    Index("ix_hf_audit_at", "at"),
)
