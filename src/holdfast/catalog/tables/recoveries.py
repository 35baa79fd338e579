"""Recovery points that are open for reading files out of them. No foreign keys: a row grants
nothing without its point, and is dropped a month after its end."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table

from holdfast.catalog.columns import identifier, metadata, moment

item_recoveries = Table(
    "hf_item_recoveries",
    metadata,
    identifier(primary_key=True),
    identifier("vault_id"),
    identifier("item_id"),
    Column("rp_id", String(64), nullable=False),
    identifier("created_by"),
    moment("created_at"),
    moment("expires_at", index=True),
    moment("ended_at", nullable=True),
    Index("ix_hf_item_recoveries_item_id_rp_id", "item_id", "rp_id"),
)
