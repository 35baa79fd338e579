"""People: accounts and how they sign in."""

from __future__ import annotations

from typing import Any

from litestar import delete, get, post, put

from holdfast.arm.guard import needs_on_installation
from holdfast.arm.http import (
    ArmRequest,
    Body,
    call_of,
    listed,
    object_of,
    properties_of,
    stamp,
    text_of,
    threaded,
)
from holdfast.errors import UsageError
from holdfast.services import users as service
from holdfast.services.users import User

HB = "Holdfast.Backup"
USERS = f"/providers/{HB}/users"
ONE = USERS + "/{user:str}"
READ, WRITE = f"{HB}/users/read", f"{HB}/users/write"


def _body(user: User) -> Body:
    row = user.row
    linked = {"issuer": row.issuer, "subject": row.subject} if row.issuer else None
    return {
        "id": f"{USERS}/{user.principal.name}",
        "name": user.principal.name,
        "type": f"{HB}/users",
        "properties": {
            "principalId": user.principal.id,
            "displayName": row.display_name,
            "hasPassword": bool(row.password_hash),
            "hasTotp": bool(row.totp),
            "provider": linked,
            "createdAt": stamp(user.principal.created_at),
            "passwordSetAt": stamp(row.password_set_at),
            "signedInAt": stamp(row.signed_in_at),
            "lockedUntil": stamp(row.locked_until),
            "deletedAt": stamp(user.principal.disabled_at),
        },
    }


@get(USERS, opt=needs_on_installation(READ))
@threaded
def list_users(request: ArmRequest) -> Body:
    """People who have an account, and those who had one."""
    call = call_of(request)
    return listed([_body(one) for one in service.list_users(call.platform)], call)


@get(ONE, opt=needs_on_installation(READ))
@threaded
def get_user(request: ArmRequest, user: str) -> Body:
    """One account."""
    with call_of(request).platform.catalog.read() as connection:
        return _body(service.find_user(connection, user))


@put(ONE, opt=needs_on_installation(WRITE), status_code=201)
@threaded
def put_user(request: ArmRequest, user: str, data: dict[str, Any]) -> Body:
    """Make an account with a password, or for somebody of the OpenID provider (``external``, or
    ``provider`` with ``subject``)."""
    call, asked = call_of(request), properties_of(data)
    password, provider = text_of(asked, "password"), object_of(asked, "provider")
    issuer = call.platform.settings.oidc_issuer
    external = bool(asked.get("external")) or bool(provider)
    if external == bool(password):
        raise UsageError(
            "an account has either a password or a provider that vouches for it",
            code="InvalidRequestContent",
            hint="give password, or external",
        )
    if external and not issuer:
        raise UsageError(
            "no OpenID provider is set up",
            code="ProviderMissing",
            hint="set oidc_issuer and oidc_client_id, and start the server again",
        )
    link = (issuer if external else "", text_of(provider, "subject"))
    made = service.make_user(call.platform, user, text_of(asked, "displayName"), password, link)
    return _body(made)


@delete(ONE, opt=needs_on_installation(f"{HB}/users/delete"), status_code=200)
@threaded
def delete_user(request: ArmRequest, user: str) -> None:
    """End an account with its roles, sessions and tokens; the audit record keeps its name."""
    call = call_of(request)
    service.delete_user(call.platform, user, call.principal)


@post(ONE + "/setPassword", opt=needs_on_installation(WRITE), status_code=200)
@threaded
def set_password(request: ArmRequest, user: str, data: dict[str, Any]) -> Body:
    """Replace a password; sessions and tokens end."""
    password = text_of(properties_of(data), "password")
    return _body(service.set_password(call_of(request).platform, user, password))


@post(ONE + "/enableTotp", opt=needs_on_installation(WRITE), status_code=200)
@threaded
def enable_totp(request: ArmRequest, user: str) -> Body:
    """Ask for codes of an authenticator app from now on; its secret is in this answer only."""
    found, secret, address = service.enable_totp(call_of(request).platform, user)
    body = _body(found)
    body["properties"]["totp"] = {"secret": secret, "address": address}
    return body


@post(ONE + "/disableTotp", opt=needs_on_installation(WRITE), status_code=200)
@threaded
def disable_totp(request: ArmRequest, user: str) -> Body:
    """Ask for the password alone."""
    return _body(service.disable_totp(call_of(request).platform, user))


@post(ONE + "/endSessions", opt=needs_on_installation(WRITE), status_code=200)
@threaded
def end_sessions(request: ArmRequest, user: str) -> Body:
    """Refuse every token of theirs; they sign in again."""
    return _body(service.end_sessions(call_of(request).platform, user))


@post(ONE + "/unlock", opt=needs_on_installation(WRITE), status_code=200)
@threaded
def unlock(request: ArmRequest, user: str) -> Body:
    """Forget wrong codes."""
    return _body(service.unlock(call_of(request).platform, user))


@post(f"/providers/{HB}/changePassword", opt={"action": None}, status_code=200)
@threaded
def change_password(request: ArmRequest, data: dict[str, Any]) -> Body:
    """The caller's own password, by the present one (``old`` and ``new``); sessions end."""
    call, asked = call_of(request), properties_of(data)
    old, new = text_of(asked, "old"), text_of(asked, "new")
    return _body(service.change_own_password(call.platform, call.principal, old, new))


ROUTES = [
    list_users,
    get_user,
    put_user,
    delete_user,
    set_password,
    enable_totp,
    disable_totp,
    end_sessions,
    unlock,
    change_password,
]
