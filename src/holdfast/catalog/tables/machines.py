"""Tables of virtual machines and of the folders they are restored into.

What hosts report stays apart from what is named in ARM: a report is a host's own, and a machine
that two hosts report has two.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text, UniqueConstraint, text

from holdfast.catalog.columns import (
    BIG,
    DOCUMENT,
    ID_CHARS,
    document,
    identifier,
    metadata,
    moment,
)

virtual_machines = Table(
    "hf_virtual_machines",
    metadata,
    identifier(primary_key=True),
    Column("vault_id", ForeignKey("hf_vaults.id"), nullable=False),
    identifier("uuid"),
    identifier("subscription_id"),
    Column("group_key", String(90), nullable=False),
    Column("name_key", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    moment("created_at"),
    UniqueConstraint("vault_id", "uuid"),
    UniqueConstraint("subscription_id", "group_key", "name_key"),
)

machine_reports = Table(
    "hf_machine_reports",
    metadata,
    Column("container_id", ForeignKey("hf_containers.id"), primary_key=True),
    Column("uuid", String(ID_CHARS), primary_key=True),
    identifier("vault_id"),
    Column("name", String(200), nullable=False),
    Column("hypervisor", String(100), nullable=False),
    Column("power_state", String(20), nullable=False),
    Column("agent_state", String(20), nullable=False),
    Column("os_type", String(20), nullable=False),
    Column("processors", BIG, nullable=False),
    Column("memory_bytes", BIG, nullable=False),
    document("disks"),
    document("tags"),
    Column("kept", DOCUMENT, nullable=False, server_default=text("'[]'")),
    moment("reported_at"),
    Index("ix_hf_machine_reports_vault_id_uuid", "vault_id", "uuid"),
)

storage_accounts = Table(
    "hf_storage_accounts",
    metadata,
    identifier(primary_key=True),
    identifier("subscription_id"),
    Column("group_key", String(90), nullable=False),
    Column("name_key", String(24), nullable=False),
    Column("name", String(24), nullable=False),
    Column("container_id", ForeignKey("hf_containers.id"), nullable=False),
    Column("path", Text, nullable=False),
    document("tags"),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("subscription_id", "group_key", "name_key"),
    Index("ix_hf_storage_accounts_container_id", "container_id"),
)
