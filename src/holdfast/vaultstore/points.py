"""Recovery points as the log has them, in the words of the service's border."""

from __future__ import annotations

import msgspec

from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.state import LogState, Point
from holdfast.vaultstore.values import PointClaims, RecoveryPointRecord, VaultStatistics
from holdfast.vaultstore.vaultclock import from_ns


def record_of(point: Point) -> RecoveryPointRecord:
    op = point.op
    claims = msgspec.convert(op.claims, PointClaims)
    until = op.retain_until_ns
    return RecoveryPointRecord(
        rp_id=op.rp_id,
        item_key=op.item_key,
        job_id=op.job_id,
        sequence=point.sequence,
        time=from_ns(op.time_ns),
        type=op.type,
        scheduled=op.scheduled,
        tags=op.tags,
        retain_until=None if until is None else from_ns(until),
        root_id=op.root_id,
        logical_bytes=op.logical_bytes,
        transferred_bytes=claims.transferred_bytes,
        stored_bytes=op.stored_bytes,
        file_count=claims.file_count,
        findings_count=claims.findings_count,
        consistency=claims.consistency,
        consistency_reason=claims.consistency_reason,
        item_document=op.item_document,
        extra=claims.extra,
    )


def records_of(state: LogState, item_key: str | None) -> list[RecoveryPointRecord]:
    """Live points in log order, of one item or of all."""
    if item_key is None:
        return [record_of(point) for point in state.points.values()]
    return [record_of(state.points[rp_id]) for rp_id in state.by_item.get(item_key, ())]


def statistics_of(core: VaultCore) -> VaultStatistics:
    """Figures of a vault, from its state."""
    state = core.state
    condemned = [entry for entry in state.packs.values() if entry.condemned_at is not None]
    return VaultStatistics(
        head=state.sequence,
        recovery_points=len(state.points),
        packs=len(state.packs),
        stored_bytes=sum(entry.pack.size for entry in state.packs.values()),
        condemned_packs=len(condemned),
        condemned_bytes=sum(entry.pack.size for entry in condemned),
        chunks=sum(entry.table.rows for entry in state.tables.values()),
        open_sessions=len(state.sessions),
        key_exported=state.key_exported,
    )
