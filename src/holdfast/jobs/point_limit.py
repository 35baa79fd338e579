"""Items that have as many recovery points as they may.

A limit must not cost a backup: what the schedule asks for runs, with a line in the job's history
and an alert for as long as it lasts. Only backups on demand are refused (services/items.py)."""

from __future__ import annotations

from sqlalchemy import Connection

from holdfast.catalog import points
from holdfast.catalog.items import ItemRow
from holdfast.domain.alerts import Cause
from holdfast.jobs.alerting import Said
from holdfast.jobs.context import JobContext

RULE = "RecoveryPointLimit"


def note_point_limit(
    context: JobContext, connection: Connection, item: ItemRow, job_id: str
) -> None:
    """Tell of the limit when a scheduled backup of ``item`` is created, or that it is over."""
    most = context.settings.max_item_points
    count = points.count_points(connection, item.id) if most else 0
    reached = bool(most) and count >= most
    text = f"{item.friendly_name} has {count} recovery points, and {most} are the limit"
    if reached:
        context.ledger.note(connection, job_id, "limit", f"{text}: this backup runs all the same")
    hint = (
        "keep fewer by its policy (holdfast policy set --plan shows what goes), or raise "
        "max_item_points in the server's settings; backups by schedule go on meanwhile"
    )
    said = Said(item.friendly_name, text if reached else "it has fewer again", hint)
    cause = Cause(RULE, item.id, "lasts" if reached else "over")
    context.ledger.alerts.note(connection, item.vault_id, cause, said)
