"""Which heads of a vault's log its agents saw."""

from __future__ import annotations

from sqlalchemy import Column, String, Table

from holdfast.catalog.columns import figure, identifier, metadata, moment

head_witnesses = Table(
    "hf_head_witnesses",
    metadata,
    identifier("vault_id", primary_key=True),
    identifier("container_id", primary_key=True),
    Column("named", String(300), nullable=False),
    figure("sequence"),
    figure("term"),
    Column("hash", String(64), nullable=False),
    moment("seen_at"),
)
