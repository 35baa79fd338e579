"""Whoever changes something is in the audit record, whatever came of it: every route is walked."""

from __future__ import annotations

from pathlib import Path

from holdfast.arm.edge import DIRECTORY, TOKEN
from holdfast.catalog import audit
from holdfast.catalog.audit import AuditRow
from holdfast.testing.api_routes import Route, all_routes
from holdfast.testing.in_process import InProcess, in_process

ASKS = (TOKEN, DIRECTORY)  # sign-ins have records of their own; the directory is only asked
# of agents: packs and lookups are recorded as sums, the others only when something came of them
PASSING = {
    "tasks/take/action",
    "tasks/progress/action",
    "virtualMachines/write",
    "sessions/lookup/action",
    "sessions/locate/action",
    "sessions/packs/write",
}
CHANGES = [one for one in all_routes() if not one.reads and not one.path.startswith(ASKS)]


def entries(server: InProcess) -> dict[str, AuditRow]:
    """By request."""
    with server.parts.platform.catalog.read() as connection:
        return {row.request_id: row for row in audit.page_audit(connection, limit=1000).rows}


def call_of(server: InProcess, route: Route) -> tuple[str, str, object]:
    own = server.parts.platform.subscription_id
    path = route.filled(sub=own, group="rg1", vault="v1", fabric="Azure")
    return route.method, path, {} if route.takes_body else None


def test_every_call_of_a_client_that_may_change_something_is_recorded(tmp_path: Path) -> None:
    ours = [route for route in CHANGES if not route.is_agents]
    assert len(ours) > 60
    with in_process(tmp_path / "server") as server:
        owner = server.holder("Owner", "/")
        nobody = server.holder("", "")
        for token, name in ((owner, "Owner at /"), (nobody, " at ")):
            replies = server.walk([call_of(server, route) for route in ours], token)
            found = entries(server)
            for route, reply in zip(ours, replies, strict=True):
                entry = found[reply.headers["x-ms-request-id"]]
                assert entry.principal_name == name, route
                assert (entry.status, entry.result_code) == (reply.status, reply.code), route
                assert entry.operation == f"{route.method} {route.action or ''}".strip(), route
                assert entry.resource, route


def test_calls_of_agents_that_are_not_recorded_one_by_one_are_known() -> None:
    agents = [route for route in CHANGES if route.is_agents]
    quiet = {str(one.action).partition("agents/")[2] for one in agents
             if not one.options.get("recorded")}  # fmt: skip
    assert quiet == PASSING
