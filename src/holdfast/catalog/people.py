"""People's accounts, their sessions (refresh tokens), and sign-ins under way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert, many, one, remove, selecting, update


@dataclass(frozen=True, slots=True)
class UserRow:
    """A person; its name and end are those of its principal. ``name_key``: the name in lower case,
    None once deleted. ``totp``: its sealed secret, "" without. ``totp_step``: the last one used.
    ``stamp`` is in every token: changing it ends them all. ``external_key`` finds a person by
    ``issuer`` and ``subject`` of an OpenID provider."""

    principal_id: str
    name_key: str | None
    display_name: str
    password_hash: str
    totp: str
    totp_step: int
    wrong_codes: int
    locked_until: datetime | None
    stamp: str
    issuer: str
    subject: str
    external_key: str | None
    password_set_at: datetime | None
    signed_in_at: datetime | None


@dataclass(frozen=True, slots=True)
class RefreshTokenRow:
    """``id``: the hash of the token. Tokens that follow each other are one ``family``."""

    id: str
    family: str
    principal_id: str
    client_id: str
    stamp: str
    started_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class SignInRow:
    """``id``: the hash of what the other side holds. ``kind``: device | code | external;
    ``state``: pending | approved | denied."""

    id: str
    kind: str
    state: str
    user_code: str | None
    principal_id: str | None
    body: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    polled_at: datetime | None


def add_user(connection: Connection, row: UserRow) -> None:
    insert(connection, t.users, row)


def get_user(connection: Connection, principal_id: str) -> UserRow | None:
    query = selecting(t.users, UserRow).where(t.users.c.principal_id == principal_id)
    return one(connection, UserRow, query)


def lock_user(connection: Connection, principal_id: str) -> UserRow | None:
    """As it is now; nobody else changes it until the transaction ends."""
    query = selecting(t.users, UserRow).where(t.users.c.principal_id == principal_id)
    return one(connection, UserRow, query.with_for_update())


def user_named(connection: Connection, name: str) -> UserRow | None:
    """By name in any case; deleted ones have none."""
    query = selecting(t.users, UserRow).where(t.users.c.name_key == name.lower())
    return one(connection, UserRow, query)


def user_linked(connection: Connection, external_key: str) -> UserRow | None:
    query = selecting(t.users, UserRow).where(t.users.c.external_key == external_key)
    return one(connection, UserRow, query)


def list_users(connection: Connection) -> list[UserRow]:
    query = selecting(t.users, UserRow).order_by(t.users.c.name_key, t.users.c.principal_id)
    return many(connection, UserRow, query)


def change_user(connection: Connection, principal_id: str, **values: Any) -> int:
    return update(connection, t.users, values, t.users.c.principal_id == principal_id)


def use_step(connection: Connection, principal_id: str, step: int) -> bool:
    """Take a code's time step, once: False when that or a later one was taken before."""
    users = t.users.c
    values = {"totp_step": step, "wrong_codes": 0}
    where = (users.principal_id == principal_id, users.totp_step < step)
    return update(connection, t.users, values, *where) > 0


def add_refresh_token(connection: Connection, row: RefreshTokenRow) -> None:
    insert(connection, t.refresh_tokens, row)


def lock_refresh_token(connection: Connection, token_id: str) -> RefreshTokenRow | None:
    """Nobody else uses or ends it until the transaction ends."""
    query = selecting(t.refresh_tokens, RefreshTokenRow).where(t.refresh_tokens.c.id == token_id)
    return one(connection, RefreshTokenRow, query.with_for_update())


def mark_used(connection: Connection, token_id: str, now: datetime) -> None:
    tokens = t.refresh_tokens.c
    update(
        connection, t.refresh_tokens, {"used_at": now}, tokens.id == token_id,
        tokens.used_at.is_(None),
    )  # fmt: skip


def revoke_family(connection: Connection, family: str, now: datetime) -> None:
    update(connection, t.refresh_tokens, {"revoked_at": now}, t.refresh_tokens.c.family == family)


def remove_sessions_of(connection: Connection, principal_id: str) -> int:
    return remove(connection, t.refresh_tokens, t.refresh_tokens.c.principal_id == principal_id)


def add_sign_in(connection: Connection, row: SignInRow) -> None:
    insert(connection, t.sign_ins, row)


def get_sign_in(connection: Connection, sign_in_id: str, kind: str) -> SignInRow | None:
    query = selecting(t.sign_ins, SignInRow).where(t.sign_ins.c.id == sign_in_id)
    return one(connection, SignInRow, query.where(t.sign_ins.c.kind == kind))


def sign_in_coded(connection: Connection, user_code: str) -> SignInRow | None:
    query = selecting(t.sign_ins, SignInRow).where(t.sign_ins.c.user_code == user_code)
    return one(connection, SignInRow, query)


def settle_sign_in(connection: Connection, row: SignInRow, state: str, who: str | None) -> bool:
    """From pending to ``state``, once."""
    where = (t.sign_ins.c.id == row.id, t.sign_ins.c.state == "pending")
    values = {"state": state, "principal_id": who}
    return update(connection, t.sign_ins, values, *where) > 0


def poll_sign_in(connection: Connection, row: SignInRow, now: datetime) -> SignInRow:
    """Write down when its program asked last."""
    update(connection, t.sign_ins, {"polled_at": now}, t.sign_ins.c.id == row.id)
    return replace(row, polled_at=now)


def take_sign_in(connection: Connection, sign_in_id: str) -> bool:
    """Remove it; False when somebody else was first."""
    return remove(connection, t.sign_ins, t.sign_ins.c.id == sign_in_id) > 0


def forget_expired(connection: Connection, now: datetime) -> None:
    """Sign-ins and refresh tokens whose time is over."""
    remove(connection, t.sign_ins, t.sign_ins.c.expires_at < now)
    remove(connection, t.refresh_tokens, t.refresh_tokens.c.expires_at < now)
