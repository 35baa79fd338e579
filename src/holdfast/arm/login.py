"""What is open to everyone: cloud metadata, the login endpoints, health."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anyio import CapacityLimiter, to_thread
from litestar import Request, Response, get, post
from litestar.datastructures import State

from holdfast.arm.errors import error_body, status_of
from holdfast.arm.guard import PUBLIC
from holdfast.catalog import outbox
from holdfast.errors import HoldfastError, NotFoundError, UsageError
from holdfast.identity.accounts import Origin
from holdfast.identity.sessions import Asked
from holdfast.identity.sign_ins import POLL_SECONDS, check_client_id
from holdfast.services.platform import Platform

Body = dict[str, Any]
Open = Request[Any, Any, State]
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_FIELD = 16_384
LOGGING_IN = 4


def _base(request: Open) -> str:
    return f"https://{request.headers.get('host', 'localhost')}"


@get("/metadata/endpoints", opt=PUBLIC, sync_to_thread=False)
def metadata(request: Open) -> Body:
    """What `az cloud register` reads."""
    base = _base(request)
    return {
        "name": "Holdfast",
        "portal": base,
        "resourceManager": base,
        "graph": base,
        "graphAudience": base,
        "microsoftGraphResourceId": base,
        "authentication": {
            "loginEndpoint": f"{base}/adfs",
            "audiences": [base],
            "tenant": "adfs",
            "identityProvider": "ADFS",
        },
        "suffixes": {},
    }


@get("/adfs/.well-known/openid-configuration", opt=PUBLIC, sync_to_thread=False)
def openid_configuration(request: Open) -> Body:
    """Where tokens come from."""
    return _login_addresses(request)


@get("/{tenant:str}/v2.0/.well-known/openid-configuration", opt=PUBLIC, sync_to_thread=False)
def tenant_configuration(request: Open, tenant: str) -> Body:
    """The same, where clients look that name the tenant by its GUID. NotFoundError
    (TenantNotFound)."""
    platform: Platform = request.app.state.platform
    if tenant.lower() not in (platform.tenant_id, "adfs"):
        raise NotFoundError(
            f"there is no tenant {tenant[:100]} here",
            code="TenantNotFound",
            hint="log in to the tenant of the credentials file, or to adfs",
        )
    return _login_addresses(request)


def _login_addresses(request: Open) -> Body:
    base = f"{_base(request)}/adfs"
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth2/authorize",
        "token_endpoint": f"{base}/oauth2/token",
        "device_authorization_endpoint": f"{base}/oauth2/devicecode",
        "revocation_endpoint": f"{base}/oauth2/revoke",
        "jwks_uri": f"{base}/discovery/keys",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "none"],
        "grant_types_supported": sorted(GRANTS),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "scopes_supported": ["openid", "profile", "offline_access"],
    }


@get("/adfs/discovery/keys", opt=PUBLIC, sync_to_thread=False)
def signing_keys(request: Open) -> Body:
    """The public key of id tokens."""
    platform: Platform = request.app.state.platform
    return platform.people.tokens.public_keys()


@post(["/adfs/oauth2/token", "/adfs/{tenant:str}/oauth2/v2.0/token"], opt=PUBLIC, status_code=200)
async def token(request: Open, tenant: str = "") -> Response[Body]:
    """Tokens for clients (by secret or signed assertion) and people (by password, device code,
    authorization code or refresh token)."""
    return await _answered(request, _grant)


@post("/adfs/oauth2/devicecode", opt=PUBLIC, status_code=200)
async def device_code(request: Open) -> Response[Body]:
    """A code for somebody to type into a browser, for a program that has none."""
    return await _answered(request, _device)


@post("/adfs/oauth2/revoke", opt=PUBLIC, status_code=200)
async def revoke(request: Open) -> Response[Body]:
    """End the session of a refresh token (RFC 7009)."""
    return await _answered(request, _revoke)


@dataclass(frozen=True, slots=True)
class Form:
    """A posted form and where it came from."""

    platform: Platform
    fields: dict[str, str]
    base: str
    origin: Origin

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")


async def read_form(request: Open, way: str) -> Form:
    """Fields that are too long are as if absent."""
    form = await request.form()
    fields = {key: str(value) for key, value in form.items() if len(str(value)) <= MAX_FIELD}
    return Form(request.app.state.platform, fields, _base(request), origin_of(request, way))


def origin_of(request: Open, way: str) -> Origin:
    address = request.client.host if request.client else ""
    return Origin(address, str(request.scope["state"].get("request_id", "")), way)


def login_threads(request: Open) -> CapacityLimiter:
    """Threads of their own: guessing, which waits for slow hashes, holds up nothing else."""
    state = request.app.state
    if "login_threads" not in state:
        state.login_threads = CapacityLimiter(LOGGING_IN)
    found: CapacityLimiter = state.login_threads
    return found


async def _answered(request: Open, act: Callable[[Form], Body]) -> Response[Body]:
    form = await read_form(request, "password")
    try:
        body = await to_thread.run_sync(act, form, limiter=login_threads(request))
    except HoldfastError as error:
        return Response(_refusal(error), status_code=status_of(error))
    return Response(body, headers={"pragma": "no-cache"})


def _grant(form: Form) -> Body:
    act = GRANTS.get(form["grant_type"])
    if act is None:
        raise UsageError(
            f"the grant type {form['grant_type'][:100]!r} is not served",
            code="unsupported_grant_type",
            hint="log in with a client id and its secret, or as a person: holdfast login --user",
        )
    return act(form)


def _by_client(form: Form) -> Body:
    logins, address = form.platform.logins, form.origin.address
    if form["client_assertion_type"] == ASSERTION:
        access = logins.by_assertion(form["client_assertion"], address)
    else:
        access = logins.by_secret(form["client_id"], form["client_secret"], address)
    seconds = form.platform.settings.token_seconds
    return {"token_type": "Bearer", "expires_in": seconds, "access_token": access}


def _asked(form: Form, nonce: str = "") -> Asked:
    return Asked(check_client_id(form["client_id"]), f"{form.base}/adfs", nonce)


def _by_password(form: Form) -> Body:
    """The code of an authenticator app comes in a field of ours, ``totp``."""
    people, asked = form.platform.people, _asked(form)
    names = form["username"], form["password"], form["totp"]
    return people.sessions.begin(people.accounts.prove(*names, form.origin), asked)


def _by_refresh_token(form: Form) -> Body:
    return form.platform.people.sessions.follow(form["refresh_token"], _asked(form))


def _by_device_code(form: Form) -> Body:
    people, asked = form.platform.people, _asked(form)
    secret = form["device_code"] or form["code"]
    return people.sessions.begin(
        people.person(people.sign_ins.poll(secret, asked.client_id)), asked
    )


def _by_code(form: Form) -> Body:
    people, asked = form.platform.people, _asked(form)
    who, nonce = people.sign_ins.redeem(
        form["code"], asked.client_id, form["redirect_uri"], form["code_verifier"]
    )
    return people.sessions.begin(people.person(who), _asked(form, nonce))


GRANTS: dict[str, Callable[[Form], Body]] = {
    "client_credentials": _by_client,
    "password": _by_password,
    "refresh_token": _by_refresh_token,
    "urn:ietf:params:oauth:grant-type:device_code": _by_device_code,
    "device_code": _by_device_code,
    "authorization_code": _by_code,
}


def _device(form: Form) -> Body:
    client = check_client_id(form["client_id"])
    made = form.platform.people.sign_ins.start_device(client, form.origin.address)
    page = f"{form.base}/adfs/oauth2/deviceauth"
    return {
        "device_code": made.device_code,
        "user_code": made.user_code,
        "verification_uri": page,
        "verification_url": page,
        "verification_uri_complete": f"{page}?user_code={made.user_code}",
        "expires_in": made.seconds,
        "interval": POLL_SECONDS,
        "message": f"To sign in, open {page} in a web browser and enter the code {made.user_code}.",
    }


def _revoke(form: Form) -> Body:
    form.platform.people.sessions.end(form["token"])
    return {}


def _refusal(error: HoldfastError) -> Body:
    """OAuth2's error shape, with ours beside it."""
    codes = {"invalid_client": [7000215], "invalid_grant": [50126], "interaction_required": [50076]}
    return {
        "error": error.code,
        "error_description": f"{error.message}. {error.hint}".strip(),
        "error_codes": codes.get(error.code, []),
        "holdfast": error_body(error)["error"],
    }


@get("/healthz", opt=PUBLIC)
async def health(request: Open) -> Response[Body]:
    """200 while catalog and job engine work, 503 otherwise."""
    platform: Platform = request.app.state.platform

    def check() -> Body:
        problems, warnings = [], []
        try:
            with platform.catalog.read() as connection:
                if outbox.failing(connection):
                    warnings.append("messages about alerts wait: they cannot be sent")
        except HoldfastError as error:
            problems.append(error.message)
        if not platform.jobs.healthy():
            problems.append("the job engine does not run")
        said: Body = {"status": "unhealthy" if problems else "healthy", "problems": problems}
        return said | ({"warnings": warnings} if warnings else {})

    body = await to_thread.run_sync(check)
    return Response(body, status_code=503 if body["problems"] else 200)


ROUTES = [
    metadata,
    openid_configuration,
    tenant_configuration,
    signing_keys,
    token,
    device_code,
    revoke,
    health,
]
