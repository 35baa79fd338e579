"""Azure's health events: how backups and restores of an item end, one event per job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from holdfast.domain.lifecycle import SUCCEEDED

EVENTS = {"backup": "BackupHealthEvent", "restore": "RestoreHealthEvent"}
# errors of what the user has in hand (machine, folders, request); others are the service's
OURS = ("Store", "Vault", "Catalog", "Internal", "Integrity", "Log", "RecoveryPointNotCommitted")


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A backup or restore of an item that ended."""

    vault_id: str
    item_id: str
    kind: str
    status: str
    error_code: str
    ended_at: datetime


def health_events(runs: Iterable[EndedRun], since: datetime) -> Iterator[tuple[str, str, str]]:
    """(vault id, event, health) of what ended at or after ``since``; ``runs`` in the order they
    ended. The same error twice in a row on one item is persistent. A cancelled job is no event."""
    last: dict[tuple[str, str], str] = {}
    for run in runs:
        if run.status == "Cancelled":
            continue
        key = (run.item_id, run.kind)
        again = last.get(key) == run.error_code
        last[key] = run.error_code
        if run.ended_at >= since:
            yield run.vault_id, EVENTS[run.kind], health_of(run, again=again)


def health_of(run: EndedRun, *, again: bool) -> str:
    """Healthy, or Transient or Persistent and Unhealthy (the service's error) or Degraded (the
    user's)."""
    if run.status in SUCCEEDED:
        return "Healthy"
    word = "Unhealthy" if run.error_code.startswith(OURS) else "Degraded"
    return f"{'Persistent' if again else 'Transient'} {word}"
