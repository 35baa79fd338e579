"""The report of a vault, for people and programs."""

from __future__ import annotations

from litestar import Response, get

from holdfast.arm.guard import needs
from holdfast.arm.http import ArmRequest, Body, iso_duration, stamp, threaded
from holdfast.arm.ours import OURS
from holdfast.arm.vaults import vault_call
from holdfast.domain.alerts import severity_name
from holdfast.errors import UsageError
from holdfast.services.report import ItemReport, VaultReport, report_of
from holdfast.services.report_csv import csv_of
from holdfast.services.report_html import POLICY, html_of

FORMATS = ("json", "csv", "html")


@get(OURS + "/report", opt=needs("Holdfast.Backup/vaults/report/read"))
@threaded
def get_report(request: ArmRequest, sub: str, group: str, vault: str) -> Response[Body | str]:
    """Items, compliance with their policies, growth, storage; ``format``: json, csv or html."""
    found = vault_call(request, sub, group, vault)
    wanted = found.call.query("format").lower() or "json"
    if wanted not in FORMATS:
        raise UsageError(
            f"{wanted[:50]!r} is no format of a report",
            code="InvalidParameter",
            hint=f"give one of {', '.join(FORMATS)}",
        )
    report = report_of(found.call.platform, found.row)
    if wanted == "csv":
        return Response(csv_of(report), media_type="text/csv")
    if wanted == "html":
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        return Response(html_of(report), media_type="text/html", headers=headers)
    return Response(_body(report, found.id))


def _body(report: VaultReport, vault: str) -> Body:
    return {
        "id": f"{vault}/providers/Holdfast.Backup/report",
        "name": "report",
        "type": "Holdfast.Backup/report",
        "properties": {
            "vault": report.vault,
            "resourceGroup": report.group,
            "location": report.location,
            "time": stamp(report.made_at),
            "storedBytes": report.stored_bytes,
            "recoveryPoints": report.recovery_points,
            "growthBytes": report.growth_bytes,
            "growthSince": report.known_since.isoformat(),
            "expectedPoints": report.expected,
            "presentPoints": report.present,
            "items": [_item(item) for item in report.items],
            "backupsByDay": [
                {
                    "day": one.day.isoformat(),
                    "completed": one.completed,
                    "withWarnings": one.warned,
                    "failed": one.failed,
                }
                for one in report.days
            ],
            "storedByDay": [
                {"day": day.isoformat(), "storedBytes": stored} for day, stored in report.history
            ],
            "alerts": [
                {
                    "id": row.id,
                    "rule": row.rule,
                    "severity": severity_name(row.severity),
                    "subject": row.subject,
                    "message": row.message,
                    "firedAt": stamp(row.fired_at),
                }
                for row in report.alerts
            ],
        },
    }


def _item(item: ItemReport) -> Body:
    found = item.compliance
    return {
        "name": item.name,
        "machine": item.machine,
        "policyName": item.policy,
        "protectionState": item.state,
        "health": item.health,
        "lastBackupStatus": item.last_status,
        "lastBackupTime": stamp(item.last_backup_at),
        "newestRecoveryPoint": stamp(item.newest_point_at),
        "logicalBytes": item.logical_bytes,
        "storedBytes": item.stored_bytes,
        "recoveryPoints": item.recovery_points,
        "growthBytes": item.growth_bytes,
        "compliance": {
            "expected": found.expected,
            "present": found.present,
            "missing": [stamp(one) for one in found.missing],
            "longestGap": iso_duration(found.longest_gap) if found.longest_gap else None,
            "rpoMet": item.health != "Overdue",
        },
    }


ROUTES = [get_report]
