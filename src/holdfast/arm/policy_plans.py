"""What a policy would do to the recovery points there are: previews and plans."""

from __future__ import annotations

from typing import Any

from litestar import post

from holdfast.arm.http import ArmRequest, Body, properties_of, stamp, text_of, threaded
from holdfast.arm.ours import HB, OURS
from holdfast.arm.policy_check import check_policy
from holdfast.arm.vaults import vault_call
from holdfast.errors import UsageError
from holdfast.services import policy_plans as service
from holdfast.services.point_changes import changes_body


@post(OURS + "/previewPolicy", opt={"action": f"{HB}/vaults/previewPolicy/action"}, status_code=200)
@threaded
def preview_policy(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """What a draft policy would keep and drop of the real recovery points, and why; and when its
    backups are due next."""
    found = vault_call(request, sub, group, vault)
    name, draft = text_of(data, "name"), properties_of(data)
    check_policy(draft)
    plan = service.preview_policy(found.call.platform, found.row, draft, name)
    return {
        "properties": {"recoveryPoints": plan.total, "drop": plan.dropped},
        "upcoming": [
            {"backupType": one.kind, "times": [stamp(time) for time in one.times]}
            for one in plan.upcoming
        ],
        "value": [
            {
                "itemName": item.friendly_name,
                "recoveryPointId": decision.point.id,
                "recoveryPointTime": stamp(decision.point.time),
                "tags": sorted(decision.point.tags),
                "keep": decision.keep,
                "expiresAt": stamp(decision.expires_at),
                "reason": decision.reason,
            }
            for item, decision in plan.rows
        ],
    }


@post(
    OURS + "/planPolicyChange",
    opt={"action": f"{HB}/vaults/planPolicyChange/action"},
    status_code=200,
)
@threaded
def plan_change(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """What changing ``policy`` to ``properties``, or giving it to an ``item`` of a ``container``,
    would do to recovery points: counts, and those that expire or whose end moves. ``refused``: why
    an immutable vault would not let it be done."""
    found = vault_call(request, sub, group, vault)
    platform, policy = found.call.platform, _name(data, "policy")
    if data.get("item") is None:
        draft = properties_of(data)
        check_policy(draft)
        plan = service.plan_edit(platform, found.row, policy, draft)
    else:
        item = _name(data, "item")
        plan = service.plan_switch(platform, found.row, _name(data, "container"), item, policy)
    rows = [_row(row) for row in plan.touched]
    told: Body = changes_body(plan.counts)
    if plan.refused is not None:
        told["refused"] = {"code": plan.refused.code, "message": plan.refused.message}
    return {"properties": told, "value": rows}


def _name(data: Body, key: str) -> str:
    found = data.get(key)
    if not isinstance(found, str) or not found:
        raise UsageError(f"{key} is missing", hint=f"give the name of the {key}")
    return found


def _row(row: service.PlannedChange) -> Body:
    before, after = row.change.before, row.change.after
    return {
        "containerName": row.container,
        "itemName": row.item.friendly_name,
        "recoveryPointId": after.point.id,
        "recoveryPointTime": stamp(after.point.time),
        "tags": sorted(after.point.tags),
        "effect": row.change.effect,
        "expiresAtBefore": stamp(before.expires_at),
        "expiresAt": stamp(after.expires_at),
        "reason": after.reason,
    }


ROUTES = [preview_policy, plan_change]
