"""What is open to everyone: cloud metadata, the login endpoints, health."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from litestar import Request, Response, get, post
from litestar.datastructures import State

from holdfast.arm.errors import error_body, status_of
from holdfast.arm.guard import PUBLIC
from holdfast.errors import HoldfastError, UsageError
from holdfast.services.platform import Platform

Body = dict[str, Any]
Open = Request[Any, Any, State]
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_FIELD = 16_384


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
    base = f"{_base(request)}/adfs"
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth2/authorize",
        "token_endpoint": f"{base}/oauth2/token",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": ["token"],
    }


@post(["/adfs/oauth2/token", "/adfs/{tenant:str}/oauth2/v2.0/token"], opt=PUBLIC, status_code=200)
async def token(request: Open, tenant: str = "") -> Response[Body]:
    """Client credentials by secret or by signed assertion, for an access token."""
    form = await request.form()
    fields = {key: str(value) for key, value in form.items() if len(str(value)) <= MAX_FIELD}
    platform = request.app.state.platform
    address = request.client.host if request.client else ""
    try:
        access = await to_thread.run_sync(_grant, platform, fields, address)
    except HoldfastError as error:
        return Response(_refusal(error), status_code=status_of(error))
    seconds = platform.settings.token_seconds
    return Response({"token_type": "Bearer", "expires_in": seconds, "access_token": access})


def _grant(platform: Platform, fields: dict[str, str], address: str) -> str:
    if fields.get("grant_type") != "client_credentials":
        raise UsageError(
            "only the grant type client_credentials is served",
            code="unsupported_grant_type",
            hint="log in with a client id and its secret",
        )
    if fields.get("client_assertion_type") == ASSERTION:
        return platform.logins.by_assertion(fields.get("client_assertion", ""), address)
    client_id, secret = fields.get("client_id", ""), fields.get("client_secret", "")
    return platform.logins.by_secret(client_id, secret, address)


def _refusal(error: HoldfastError) -> Body:
    """OAuth2's error shape, with ours beside it."""
    codes = {"invalid_client": [7000215]}
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
        problems = []
        try:
            with platform.catalog.read():
                pass
        except HoldfastError as error:
            problems.append(error.message)
        if not platform.jobs.healthy():
            problems.append("the job engine does not run")
        return {"status": "unhealthy" if problems else "healthy", "problems": problems}

    body = await to_thread.run_sync(check)
    return Response(body, status_code=503 if body["problems"] else 200)


ROUTES = [metadata, openid_configuration, token, health]
