"""People: make accounts, change how they sign in, end them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection

from holdfast.catalog import access, people
from holdfast.catalog.access import PrincipalRow
from holdfast.catalog.identifiers import is_id
from holdfast.catalog.people import UserRow
from holdfast.errors import AccessError, ConflictError, NotFoundError, UsageError
from holdfast.identity.authority import Principal
from holdfast.identity.passwords import check_strength
from holdfast.identity.totp import otpauth
from holdfast.identity.vouched import external_key
from holdfast.services.platform import Platform

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
ISSUER = "Holdfast"


@dataclass(frozen=True, slots=True)
class User:
    """An account: who it is to role assignments, and how that person signs in."""

    principal: PrincipalRow
    row: UserRow


def list_users(platform: Platform) -> list[User]:
    """By name, deleted ones last."""
    with platform.catalog.read() as connection:
        principals = {row.id: row for row in access.list_principals(connection)}
        rows = people.list_users(connection)
    found = [User(principals[row.principal_id], row) for row in rows]
    return sorted(found, key=lambda one: (one.row.name_key is None, one.principal.name.lower()))


def find_user(connection: Connection, name: str) -> User:
    """By name or id. NotFoundError (UserNotFound)."""
    row = people.user_named(connection, name) or people.get_user(connection, name.lower())
    principal = access.get_principal(connection, row.principal_id) if row else None
    if row is None or principal is None or principal.disabled_at is not None:
        raise NotFoundError(
            f"there is no user {name[:100]}", code="UserNotFound", hint="holdfast user list"
        )
    return User(principal, row)


def make_user(
    platform: Platform, name: str, display_name: str, password: str, link: tuple[str, str]
) -> User:
    """An account without any role. ``link``: issuer and subject at a provider; an account without
    a password and without a subject is linked when its person first signs in there. UsageError
    (InvalidName, PasswordTooWeak), ConflictError (UserExists)."""
    if not _NAME.fullmatch(name) or is_id(name):
        raise UsageError(
            f"{name[:100]!r} is no name for a user",
            code="InvalidName",
            hint="1 to 100 letters, digits and ._@+-, e.g. a mail address, and no GUID",
        )
    if password:
        check_strength(password, name)
    accounts, now = platform.people.accounts, platform.now()
    principal = PrincipalRow(platform.new_id(), "user", name, "", "", None, now, None)
    row = UserRow(
        principal_id=principal.id,
        name_key=name.lower(),
        display_name=(display_name or name)[:200],
        password_hash=accounts.hash(password) if password else "",
        totp="",
        totp_step=0,
        wrong_codes=0,
        locked_until=None,
        stamp=accounts.new_stamp(),
        issuer=link[0],
        subject=link[1],
        external_key=external_key(*link),
        password_set_at=now if password else None,
        signed_in_at=None,
    )
    with platform.catalog.write() as connection:
        _check_free(connection, row)
        access.add_principal(connection, principal)
        people.add_user(connection, row)
    return User(principal, row)


def _check_free(connection: Connection, row: UserRow) -> None:
    taken = people.user_named(connection, row.name_key or "")
    linked = people.user_linked(connection, row.external_key) if row.external_key else None
    if taken or linked:
        what = "of that name" if taken else "linked to that person of the provider"
        raise ConflictError(
            f"there is a user {what}",
            code="UserExists",
            hint="choose another name, or delete that user first",
        )


def _with_password(connection: Connection, name: str) -> User:
    """ConflictError (ProviderSignsIn) for somebody whom the OpenID provider vouches for."""
    user = find_user(connection, name)
    if not user.row.password_hash:
        raise ConflictError(
            f"{user.principal.name} signs in at the OpenID provider and has no password here",
            code="ProviderSignsIn",
            hint="set passwords and second factors at the provider; or delete the account and make "
            "one with a password",
        )
    return user


def set_password(platform: Platform, name: str, password: str) -> User:
    """A new password; all sessions end, a lock too. ConflictError (ProviderSignsIn)."""
    accounts = platform.people.accounts
    with platform.catalog.read() as connection:
        user = _with_password(connection, name)
    check_strength(password, user.principal.name)
    hashed = accounts.hash(password)
    return _change(
        platform, user, password_hash=hashed, password_set_at=platform.now(), end_sessions=True
    )


def change_own_password(platform: Platform, by: Principal, old: str, new: str) -> User:
    """By the person, with the old one. AccessError (WrongPassword), LimitError."""
    accounts = platform.people.accounts
    with platform.catalog.read() as connection:
        user = find_user(connection, by.id)
    accounts.attempts.check(by.id, by.id)
    if not user.row.password_hash or not accounts.is_password(user.row, old):
        accounts.attempts.failed(by.id, by.id)
        raise AccessError(
            "the present password is wrong", code="WrongPassword", hint="type it again"
        )
    return set_password(platform, by.id, new)


def enable_totp(platform: Platform, name: str) -> tuple[User, str, str]:
    """(the user, the secret, the address an authenticator app reads), shown this once. All
    sessions end: the next sign-in needs a code. ConflictError (ProviderSignsIn)."""
    with platform.catalog.read() as connection:
        user = _with_password(connection, name)
    kept, secret = platform.people.accounts.seal.new(user.row.principal_id)
    changed = _change(platform, user, totp=kept, totp_step=0, end_sessions=True)
    return changed, secret, otpauth(user.principal.name, secret, ISSUER)


def disable_totp(platform: Platform, name: str) -> User:
    """The password alone is enough from now on."""
    with platform.catalog.read() as connection:
        user = find_user(connection, name)
    return _change(platform, user, totp="", totp_step=0, end_sessions=True)


def end_sessions(platform: Platform, name: str) -> User:
    """Every token of theirs is refused from now on."""
    with platform.catalog.read() as connection:
        user = find_user(connection, name)
    return _change(platform, user, end_sessions=True)


def unlock(platform: Platform, name: str) -> User:
    """Forget wrong codes."""
    with platform.catalog.read() as connection:
        user = find_user(connection, name)
    return _change(platform, user)


def delete_user(platform: Platform, name: str, by: Principal) -> None:
    """Refuse them at once, tokens included; the name is free again. ConflictError
    (CannotDisableYourself)."""
    with platform.catalog.write() as connection:
        user = find_user(connection, name)
        if user.principal.id == by.id:
            raise ConflictError(
                "a user cannot delete itself",
                code="CannotDisableYourself",
                hint="let another owner do it",
            )
        access.change_principal(connection, user.principal.id, disabled_at=platform.now())
        access.remove_assignments_of(connection, user.principal.id)
        people.remove_sessions_of(connection, user.principal.id)
        people.change_user(
            connection, user.principal.id, name_key=None, external_key=None, password_hash="",
            totp="", stamp=platform.people.accounts.new_stamp(),
        )  # fmt: skip


def _change(
    platform: Platform, user: User, *, end_sessions: bool = False, **values: object
) -> User:
    """Write values; a lock ends with any of these changes."""
    who = user.row.principal_id
    values |= {"wrong_codes": 0, "locked_until": None}
    if end_sessions:
        values["stamp"] = platform.people.accounts.new_stamp()
    with platform.catalog.write() as connection:
        if end_sessions:
            people.remove_sessions_of(connection, who)
        people.change_user(connection, who, **values)
        return find_user(connection, who)
