"""People with passwords, their sessions, and sign-ins under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from holdfast.catalog.columns import BIG, DOCUMENT, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hf_users",
        sa.Column("principal_id", sa.String(36), nullable=False),
        sa.Column("name_key", sa.String(100), nullable=True),
        sa.Column("display_name", sa.String(200), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("totp", sa.Text(), nullable=False),
        sa.Column("totp_step", BIG, nullable=False),
        sa.Column("wrong_codes", sa.Integer(), nullable=False),
        sa.Column("locked_until", UtcDateTime(), nullable=True),
        sa.Column("stamp", sa.String(64), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("external_key", sa.String(64), nullable=True),
        sa.Column("password_set_at", UtcDateTime(), nullable=True),
        sa.Column("signed_in_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["hf_principals.id"], name=op.f("fk_hf_users_principal_id")
        ),
        sa.PrimaryKeyConstraint("principal_id", name=op.f("pk_hf_users")),
        sa.UniqueConstraint("name_key", name=op.f("uq_hf_users_name_key")),
        sa.UniqueConstraint("external_key", name=op.f("uq_hf_users_external_key")),
    )
    op.create_table(
        "hf_refresh_tokens",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("family", sa.String(36), nullable=False),
        sa.Column("principal_id", sa.String(36), nullable=False),
        sa.Column("client_id", sa.String(200), nullable=False),
        sa.Column("stamp", sa.String(64), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["hf_principals.id"], name=op.f("fk_hf_refresh_tokens_principal_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_refresh_tokens")),
    )
    for name in ("principal_id", "expires_at"):
        op.create_index(op.f(f"ix_hf_refresh_tokens_{name}"), "hf_refresh_tokens", [name])
    op.create_table(
        "hf_sign_ins",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("user_code", sa.String(20), nullable=True),
        sa.Column("principal_id", sa.String(36), nullable=True),
        sa.Column("body", DOCUMENT, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("polled_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hf_sign_ins")),
        sa.UniqueConstraint("user_code", name=op.f("uq_hf_sign_ins_user_code")),
    )
    op.create_index(op.f("ix_hf_sign_ins_expires_at"), "hf_sign_ins", ["expires_at"])


def downgrade() -> None:
    for name in ("hf_sign_ins", "hf_refresh_tokens", "hf_users"):
        op.drop_table(name)
