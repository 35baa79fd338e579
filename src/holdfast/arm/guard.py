"""Who may call a route: every route names its action in ``opt``, and this guard asks for it.

``opt``: ``public`` (no token needed), or ``action`` (None: any client that is logged in), and
``scope``: "installation" for addresses outside of the subscription's tree ("anywhere": a right
anywhere in it is enough), "below" for lists that show what the caller may see of the group or
subscription. An agent's calls share one permission;
their action names them in the audit record, if they are ``recorded`` there.
"""

from __future__ import annotations

from typing import Any, cast

from anyio import CapacityLimiter, to_thread
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from holdfast.arm.actions import action_of
from holdfast.arm.edge import AGENTS
from holdfast.errors import UsageError
from holdfast.services.platform import Platform

Options = dict[str, Any]
RECOVERIES = "/providers/Holdfast.Backup/itemRecoveries/"  # of scripts that bring a password
PUBLIC: Options = {"public": True}
AGENT_ACTION = "Holdfast.Backup/agents/call/action"
AUTHENTICATING = 8
NEEDS_VERSION = ("/subscriptions", "/tenants", "/providers/")


def needs(action: str) -> Options:
    """Options of a route in the subscription's tree."""
    return {"action": action}


def needs_on_installation(action: str) -> Options:
    """Options of a route beside that tree: asked for at the subscription."""
    return {"action": action, "scope": "installation"}


def needs_anywhere(action: str) -> Options:
    """Options of a route beside that tree: the action anywhere in it opens it."""
    return {"action": action, "scope": "anywhere"}


def needs_below(action: str) -> Options:
    """Options of a list: the action somewhere in its group or subscription opens it."""
    return {"action": action, "scope": "below"}


def needs_version(path: str) -> bool:
    """Whether ARM asks for a version there."""
    return path.startswith(NEEDS_VERSION) and not path.startswith((AGENTS, RECOVERIES))


async def authorise(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """A version, a valid token, and the route's action at its scope. UsageError
    (MissingApiVersionParameter), AuthenticationError, AccessError."""
    path = connection.scope["path"]
    agent_call = path.startswith(AGENTS)
    if needs_version(path):
        _check_version(connection)
    state = connection.scope["state"]
    if agent_call:
        state["action"] = handler.opt.get("action", AGENT_ACTION)
        state["recorded"] = handler.opt.get("recorded", False)
    if handler.opt.get("public") or path == f"{AGENTS}/enroll":
        return
    platform: Platform = connection.app.state.platform
    header = connection.headers.get("authorization")
    authenticate = platform.authority.authenticate
    principal = await to_thread.run_sync(authenticate, header, limiter=_own_threads(connection))
    state["principal"] = principal
    scope = cast(Any, connection.scope)
    named = action_of(handler.opt, scope["method"], scope["path_template"])
    action = AGENT_ACTION if agent_call else named
    state.setdefault("action", action)
    if action is None:
        return
    if handler.opt.get("scope") == "below":
        principal.check_below(action, _holder(path))
    elif handler.opt.get("scope") == "anywhere":
        principal.check_below(action, f"/subscriptions/{platform.subscription_id}")
    else:
        principal.check(action, _scope(path, handler, platform))


def _own_threads(connection: ASGIConnection[Any, Any, Any, Any]) -> CapacityLimiter:
    """Threads of the guard's own, so that slow requests of some hold up nobody's token."""
    state = connection.app.state
    if "guard_threads" not in state:
        state.guard_threads = CapacityLimiter(AUTHENTICATING)
    found: CapacityLimiter = state.guard_threads
    return found


def _scope(path: str, handler: BaseRouteHandler, platform: Platform) -> str:
    if handler.opt.get("scope") == "installation":
        return f"/subscriptions/{platform.subscription_id}"
    return path


def _holder(path: str) -> str:
    """The group or subscription a list is about."""
    parts = path.split("/")
    grouped = len(parts) > 4 and parts[3] == "resourceGroups"
    return "/".join(parts[: 5 if grouped else 3])


def _check_version(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    given = [
        value for key, value in connection.query_params.items() if key.lower() == "api-version"
    ]
    if not any(given):
        raise UsageError(
            "The api-version query parameter (?api-version=) is required for all requests.",
            code="MissingApiVersionParameter",
            hint="add ?api-version=2024-04-01 (any version is accepted)",
        )
