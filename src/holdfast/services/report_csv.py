"""A report as CSV, one line per item; what a spreadsheet would compute stays text."""

from __future__ import annotations

import csv
import io
from datetime import datetime

from holdfast.services.report import ItemReport, VaultReport

HEADS = (
    "vault",
    "item",
    "machine",
    "policy",
    "state",
    "health",
    "lastBackupStatus",
    "lastBackupTime",
    "newestRecoveryPoint",
    "logicalBytes",
    "storedBytes",
    "growthBytes30Days",
    "recoveryPoints",
    "expectedPoints",
    "presentPoints",
    "longestGapHours",
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_of(report: VaultReport) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(HEADS)
    writer.writerows(_row(report.vault, item) for item in report.items)
    return out.getvalue()


def _row(vault: str, item: ItemReport) -> list[object]:
    gap = item.compliance.longest_gap
    texts = (vault, item.name, item.machine, item.policy, item.state, item.health, item.last_status)
    return [
        *map(plain_cell, texts),
        _moment(item.last_backup_at),
        _moment(item.newest_point_at),
        item.logical_bytes,
        item.stored_bytes,
        "" if item.growth_bytes is None else item.growth_bytes,
        item.recovery_points,
        item.compliance.expected,
        item.compliance.present,
        "" if gap is None else round(gap.total_seconds() / 3600, 1),
    ]


def plain_cell(text: str) -> str:
    """``text`` so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _moment(at: datetime | None) -> str:
    return at.isoformat() if at is not None else ""
