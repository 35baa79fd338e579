"""The head of a vault's log: what came and went since one, and going on with another."""

from __future__ import annotations

from typing import Any

from litestar import get, post

from holdfast.arm.http import ArmRequest, Body, call_of, properties_of, threaded
from holdfast.arm.ours import OURS
from holdfast.arm.vaults import vault_call
from holdfast.services import heads
from holdfast.vaultstore.head import parse_head

HB = "Holdfast.Backup"


@post(OURS + "/acceptHead", opt={"action": f"{HB}/vaults/acceptHead/action"}, status_code=200)
@threaded
def accept_head(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """Go on with the log the store serves, under a higher term, though newer heads were seen;
    ``planOnly`` shows what that gives up."""
    found = vault_call(request, sub, group, vault)
    platform = found.call.platform
    if properties_of(data).get("planOnly"):
        plan = heads.plan_accept(platform, found.row)
        return {"properties": heads.plan_body(platform, found.row, plan)}
    plan, head = heads.accept(platform, found.row)
    body = heads.plan_body(platform, found.row, plan)
    found.call.note(head=head.text, term=str(head.term), lost=", ".join(plan.lost)[:4000])
    return {"properties": {**body, "accepted": heads.head_body(head)}}


@get(OURS + "/logAudit", opt={"action": f"{HB}/vaults/logAudit/read"})
@threaded
def audit_log(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """What was added to the vault and removed from it since a head (``since``: SEQ or SEQ:HASH),
    read from its signed log."""
    found = vault_call(request, sub, group, vault)
    since = parse_head(call_of(request).query("since") or "0")
    return {"properties": heads.audit(found.call.platform, found.row, since)}


ROUTES = [accept_head, audit_log]
