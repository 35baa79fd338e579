"""The application: all routes behind one guard, one shape of error, one audit."""

from __future__ import annotations

import functools
from typing import Any

from anyio import to_thread
from litestar import Litestar, Response, get
from litestar.types import ASGIApp

from holdfast.arm import (
    access,
    alerts,
    configuration,
    containers,
    deleted_vaults,
    directory,
    discovery,
    heads,
    item_recovery,
    items,
    job_exports,
    jobs,
    login,
    machine_files,
    machine_runs,
    machines,
    metrics,
    operations,
    ours,
    points,
    policies,
    policy_plans,
    provider,
    provider_sign_in,
    report,
    roles,
    sign_in,
    storage,
    subscriptions,
    usages,
    users,
    vaults,
)
from holdfast.arm.agent_api import agent_routes
from holdfast.arm.body_check import check_request
from holdfast.arm.edge import Edge
from holdfast.arm.failures import FAILURES
from holdfast.arm.guard import PUBLIC, authorise
from holdfast.arm.openapi import describe
from holdfast.arm.paths import PathForms
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.item_recovery import OpenPoints
from holdfast.services.platform import Platform

MAX_BODY = 4 * 1024 * 1024
MODULES: tuple[Any, ...] = (
    login,
    sign_in,
    provider_sign_in,
    subscriptions,
    provider,
    vaults,
    deleted_vaults,
    configuration,
    usages,
    policies,
    containers,
    machine_runs,
    machines,
    storage,
    discovery,
    items,
    points,
    machine_files,
    item_recovery,
    jobs,
    job_exports,
    operations,
    access,
    roles,
    users,
    directory,
    ours,
    heads,
    policy_plans,
    alerts,
    report,
    metrics,
)


def _handlers() -> list[Any]:
    handlers: list[Any] = [route for module in MODULES for route in module.ROUTES]
    return [*handlers, *agent_routes]


@functools.cache
def description() -> bytes:
    """The OpenAPI document, made once."""
    return describe(_handlers())


@get("/openapi.json", opt=PUBLIC)
async def openapi() -> Response[bytes]:
    """The OpenAPI document of this server."""
    return Response(await to_thread.run_sync(description), media_type="application/json")


async def _without_null(response: Response[Any]) -> Response[Any]:
    """An answer without content has no bytes; the framework would write ``null``."""
    if response.content is None:
        response.content = b""
    return response


def build_routes(platform: Platform, agents: AgentDesk | None) -> Litestar:
    """The routes without the edge around them."""
    app = Litestar(
        route_handlers=[*_handlers(), openapi],
        guards=[authorise],
        exception_handlers=FAILURES,
        before_request=check_request,
        after_request=_without_null,
        request_max_body_size=MAX_BODY,
        openapi_config=None,
        logging_config=None,
    )
    app.state.platform = platform
    app.state.agents = agents
    app.state.open_points = OpenPoints(platform)
    return app


def build_app(platform: Platform, agents: AgentDesk) -> ASGIApp:
    """The ASGI application of one server."""
    app = build_routes(platform, agents)
    forms = PathForms(route.path_components for route in app.routes)
    return Edge(app, forms, platform)
