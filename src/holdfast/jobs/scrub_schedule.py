"""Scrubs that the server begins by itself, one vault after the other.

Every few minutes the vault that is longest overdue is taken, unless a scrub runs somewhere: reading
everything is hard work for a disk, and other jobs want their turn.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection

from holdfast.catalog import jobs, upkeep, vaults
from holdfast.catalog.vaults import NOT_READ, VaultRow
from holdfast.domain.scrubbing import LastScrub, is_due, scrub_due
from holdfast.jobs.context import JobContext
from holdfast.ports.jobs import JobKind, JobSpec

log = logging.getLogger(__name__)
KIND: JobKind = "scrub"
EVERY = timedelta(minutes=10)  # between two looks for a vault that is due
DAMAGED = "damagedObjects"  # in the result of a scrub that came to its end and found damage


class ScrubSchedule:
    """Of one server; ``scrub_days`` of its settings, 0 for never."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._looked: datetime | None = None

    def look(self, now: datetime) -> int:
        """Create the job of a vault that is due; how many were."""
        every = timedelta(days=self._context.settings.scrub_days)
        looked = self._looked
        if not every or (looked is not None and looked <= now < looked + EVERY):
            return 0
        self._looked = now
        with self._context.catalog.read() as connection:
            if jobs.is_active_anywhere(connection, KIND):
                return 0
            due = due_vaults(connection, every, now)
        return self._create(due[0], now, every) if due else 0

    def _create(self, vault: VaultRow, now: datetime, every: timedelta) -> int:
        """Once, however many servers see that it is due."""
        with self._context.catalog.write() as connection:
            current = vaults.lock_vault(connection, vault.id)
            if current is None or jobs.active_jobs_of(connection, vault.id, kind=KIND):
                return 0
            last = last_scrub(connection, vault.id)
            if not is_due(vault.id, vault.created_at, last, every, now):
                return 0
            spec = JobSpec(kind=KIND, vault_id=vault.id, entity_name=vault.name, scheduled=True)
            self._context.ledger.create(connection, spec)
        return 1


def due_vaults(connection: Connection, every: timedelta, now: datetime) -> list[VaultRow]:
    """Vaults whose scrub is due, the longest overdue first."""
    found = []
    for vault in vaults.list_vaults(connection):
        last = last_scrub(connection, vault.id)
        read = vault.life_written != NOT_READ
        if read and is_due(vault.id, vault.created_at, last, every, now):
            found.append((scrub_due(vault.id, vault.created_at, last, every), vault))
    return [vault for _, vault in sorted(found, key=lambda pair: pair[0])]


def last_scrub(connection: Connection, vault_id: str) -> LastScrub | None:
    """The last scrub that ended, whoever asked for it."""
    run = upkeep.last_run(connection, vault_id, KIND)
    if run is None:
        return None
    whole = run.status.startswith("Completed") or DAMAGED in run.result
    return LastScrub(run.started_at, whole)


def next_scrub(connection: Connection, vault: VaultRow, days: float) -> datetime | None:
    """When a vault's next scrub is due; None when the server begins none."""
    if not days:
        return None
    last = last_scrub(connection, vault.id)
    return scrub_due(vault.id, vault.created_at, last, timedelta(days=days))
