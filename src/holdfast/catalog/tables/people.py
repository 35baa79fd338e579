"""Tables of people: their accounts, their sessions, and sign-ins that are under way."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Integer, String, Table, Text, UniqueConstraint

from holdfast.catalog.columns import BIG, document, identifier, metadata, moment

HASH = 64

users = Table(
    "hf_users",
    metadata,
    Column("principal_id", ForeignKey("hf_principals.id"), primary_key=True),
    Column("name_key", String(100), nullable=True),
    Column("display_name", String(200), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("totp", Text, nullable=False),
    Column("totp_step", BIG, nullable=False),
    Column("wrong_codes", Integer, nullable=False),
    moment("locked_until", nullable=True),
    Column("stamp", String(HASH), nullable=False),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("external_key", String(HASH), nullable=True),
    moment("password_set_at", nullable=True),
    moment("signed_in_at", nullable=True),
    UniqueConstraint("name_key"),
    UniqueConstraint("external_key"),
)

refresh_tokens = Table(
    "hf_refresh_tokens",
    metadata,
    Column("id", String(HASH), primary_key=True),
    identifier("family"),
    Column("principal_id", ForeignKey("hf_principals.id"), nullable=False, index=True),
    Column("client_id", String(200), nullable=False),
    Column("stamp", String(HASH), nullable=False),
    moment("started_at"),
    moment("expires_at", index=True),
    moment("used_at", nullable=True),
    moment("revoked_at", nullable=True),
)

sign_ins = Table(
    "hf_sign_ins",
    metadata,
    Column("id", String(HASH), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("user_code", String(20), nullable=True),
    identifier("principal_id", nullable=True),
    document("body"),
    moment("created_at"),
    moment("expires_at", index=True),
    moment("polled_at", nullable=True),
    UniqueConstraint("user_code"),
)
