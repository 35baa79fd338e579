"""Alerts as Azure Monitor shows them, of a vault, a group or the subscription; and who is told
of a vault's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from litestar import get, post, put

from holdfast.arm import wire
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    PAGE_ROWS,
    ArmRequest,
    Body,
    Call,
    call_of,
    listed,
    properties_of,
    stamp,
    text_of,
    threaded,
)
from holdfast.arm.ours import OURS
from holdfast.arm.subscriptions import GROUP_PATH, SUB, check_subscription
from holdfast.arm.vaults import VAULT, group_name, vault_call
from holdfast.catalog import alerts, outbox, vaults
from holdfast.catalog.alerts import AlertEvent, AlertRow, AlertSettings, Wanted
from holdfast.catalog.outbox import MessageRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.alerts import FIRED, RESOLVED, RULES, check_state, severity_name
from holdfast.errors import UsageError
from holdfast.services import alerts as service

PROVIDER = "Microsoft.AlertsManagement"
ALERTS = f"/providers/{PROVIDER}/alerts"
SCOPES = (SUB, GROUP_PATH, VAULT)
READ = needs(f"{PROVIDER}/alerts/read")
CHANGE = needs(f"{PROVIDER}/alerts/changestate/action")
SETTINGS = OURS + "/alertSettings"
RANGES = {"1h": 1, "1d": 24, "7d": 7 * 24, "30d": 30 * 24}


def _vaults_of(request: ArmRequest, sub: str, group: str, vault: str) -> list[VaultRow]:
    """The vaults of the scope that the address names, deleted ones too: they may go for good."""
    call = call_of(request)
    if vault:
        return [vault_call(request, sub, group, vault).row]
    check_subscription(call, sub)
    with call.platform.catalog.read() as connection:
        rows = vaults.list_vaults(connection) + vaults.deleted_vaults(connection)
    return [row for row in rows if not group or row.group_key == group.lower()]


def _wanted(call: Call, vault_ids: list[str]) -> Wanted:
    """Azure Monitor's query parameters; those it has and we have not are passed over."""
    severity, span = call.query("severity"), call.query("timeRange")
    state, condition = call.query("alertState"), call.query("monitorCondition")
    if severity and severity.lower() not in {f"sev{number}" for number in range(5)}:
        raise UsageError(
            f"{severity[:50]!r} is no severity", code="InvalidFilter", hint="give Sev0 to Sev4"
        )
    if span and span not in RANGES:
        raise UsageError(
            f"{span[:50]!r} is no time range",
            code="InvalidFilter",
            hint=f"give one of {', '.join(RANGES)}",
        )
    if condition and condition.capitalize() not in (FIRED, RESOLVED):
        raise UsageError(
            f"{condition[:50]!r} is no condition of an alert",
            code="InvalidFilter",
            hint=f"give {FIRED} or {RESOLVED}",
        )
    return Wanted(
        vault_ids=vault_ids,
        state=check_state(state) if state else None,
        condition=condition or None,
        severity=int(severity[3:]) if severity else None,
        rule=call.query("alertRule") or None,
        since=call.platform.now() - timedelta(hours=RANGES[span]) if span else None,
    )


@get([scope + ALERTS for scope in SCOPES], opt=READ)
@threaded
def list_alerts(request: ArmRequest, sub: str, group: str = "", vault: str = "") -> Body:
    """Alerts, newest first; alertState, monitorCondition, severity, alertRule, timeRange."""
    call, found = call_of(request), _vaults_of(request, sub, group, vault)
    by_id = {row.id: row for row in found}
    with call.platform.catalog.read() as connection:
        page = alerts.page_alerts(
            connection, _wanted(call, list(by_id)), limit=PAGE_ROWS, token=call.skip_token
        )
    ids = {row.id: wire.vault_id(row, group_name(call, row)) for row in found}
    rows = [alert_body(row, by_id[row.vault_id], ids[row.vault_id]) for row in page.rows]
    return listed(rows, call, page.next_token)


@get([scope + ALERTS + "/{alert:str}" for scope in SCOPES], opt=READ)
@threaded
def get_alert(request: ArmRequest, sub: str, alert: str, group: str = "", vault: str = "") -> Body:
    """One alert, with what became of the messages about it."""
    call, found = call_of(request), _vaults_of(request, sub, group, vault)
    with call.platform.catalog.read() as connection:
        row, holder = service.find_alert(connection, found, alert)
        sent = outbox.messages_of(connection, row.id)
    body = alert_body(row, holder, wire.vault_id(holder, group_name(call, holder)))
    body["properties"]["holdfast"]["messages"] = [_message(one) for one in sent]
    return body


@get([scope + ALERTS + "/{alert:str}/history" for scope in SCOPES], opt=READ)
@threaded
def get_history(
    request: ArmRequest, sub: str, alert: str, group: str = "", vault: str = ""
) -> Body:
    """What became of an alert, oldest first."""
    call, found = call_of(request), _vaults_of(request, sub, group, vault)
    with call.platform.catalog.read() as connection:
        row, holder = service.find_alert(connection, found, alert)
        events = alerts.history_of(connection, row.id)
    place = wire.vault_id(holder, group_name(call, holder))
    return {
        "id": f"{place}{ALERTS}/{row.id}/history/default",
        "name": "default",
        "type": f"{PROVIDER}/alerts/history",
        "properties": {"alertId": row.id, "modifications": [_modification(one) for one in events]},
    }


@post(
    [scope + ALERTS + "/{alert:str}/changestate" for scope in SCOPES], opt=CHANGE, status_code=200
)
@threaded
def change_state(
    request: ArmRequest,
    sub: str,
    alert: str,
    data: dict[str, Any] | None = None,
    group: str = "",
    vault: str = "",
) -> Body:
    """Acknowledge, close or open again: ``newState``, and a comment in the body."""
    call, found = call_of(request), _vaults_of(request, sub, group, vault)
    comment = text_of(data or {}, "comments")
    asked = call.query("newState")
    by = call.principal.name
    row, holder = service.change_state(call.platform, found, alert, asked, comment, by)
    return alert_body(row, holder, wire.vault_id(holder, group_name(call, holder)))


@get(SETTINGS, opt=needs("Holdfast.Backup/vaults/alertSettings/read"))
@threaded
def get_settings(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Who is told of the vault's alerts besides the server's own receivers."""
    found = vault_call(request, sub, group, vault)
    platform = found.call.platform
    with platform.catalog.read() as connection:
        return _settings_body(found.id, service.settings_of(connection, platform, found.row))


@put(SETTINGS, opt=needs("Holdfast.Backup/vaults/alertSettings/write"))
@threaded
def put_settings(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """Name addresses and the server's webhooks, and up to which severity they are told."""
    found = vault_call(request, sub, group, vault)
    asked = properties_of(data)
    lists = (asked.get(name) for name in ("emails", "webhooks"))
    emails, hooks = ([] if given is None else given for given in lists)
    row = service.put_settings(found.call.platform, found.row, emails, hooks, asked.get("severity"))
    return _settings_body(found.id, row)


def _settings_body(vault: str, row: AlertSettings) -> Body:
    return {
        "id": f"{vault}/providers/Holdfast.Backup/alertSettings",
        "name": "alertSettings",
        "type": "Holdfast.Backup/alertSettings",
        "properties": {
            "emails": row.emails,
            "webhooks": row.webhooks,
            "severity": row.severity,
        },
    }


def alert_body(row: AlertRow, vault: VaultRow, vault_id: str) -> Body:
    """As Azure Monitor writes it."""
    rule = RULES[row.rule]
    essentials = {
        "severity": severity_name(row.severity),
        "signalType": "Log",
        "alertState": row.state,
        "monitorCondition": row.condition,
        "targetResource": vault_id,
        "targetResourceName": vault.name,
        "targetResourceGroup": vault_id.split("/")[4],
        "targetResourceType": "microsoft.recoveryservices/vaults",
        "monitorService": "Azure Backup",
        "alertRule": row.rule,
        "sourceCreatedId": row.about,
        "startDateTime": stamp(row.fired_at),
        "lastModifiedDateTime": stamp(max(row.changed_at, row.last_at)),
        "monitorConditionResolvedDateTime": stamp(row.resolved_at),
        "lastModifiedUserName": row.changed_by,
        "description": row.message,
        "actionStatus": {"isSuppressed": False},
    }
    ours = {
        "title": rule.title,
        "category": rule.category,
        "subject": row.subject,
        "hint": row.hint,
        "occurrences": row.occurrences,
        "lastAt": stamp(row.last_at),
        "details": row.details,
    }
    return {
        "id": f"{vault_id}{ALERTS}/{row.id}",
        "name": row.id,
        "type": f"{PROVIDER}/alerts",
        "properties": {"essentials": essentials, "context": row.details, "holdfast": ours},
    }


def _modification(event: AlertEvent) -> Body:
    return {
        "modificationEvent": event.event,
        "oldValue": event.old_value,
        "newValue": event.new_value,
        "modifiedAt": stamp(event.at),
        "modifiedBy": event.by,
        "comments": event.comment,
        "description": "",
    }


def _message(row: MessageRow) -> Body:
    return {
        "event": row.event,
        "channel": row.channel or "not routed yet",
        "target": row.target,
        "state": row.state,
        "attempts": row.attempts,
        "lastError": row.last_error,
        "createdAt": stamp(row.created_at),
        "endedAt": stamp(row.ended_at),
    }


ROUTES = [list_alerts, get_alert, get_history, change_state, get_settings, put_settings]
