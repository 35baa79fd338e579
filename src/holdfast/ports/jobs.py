"""The jobs port: durable executions that survive the death of any process.

A job is a row users see and an execution the engine drives behind it. Whoever submits a job gets
its id at once; a committed submission runs even if the server dies in the next moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

JobKind = Literal[
    "backup",
    "restore",
    "browse",
    "expire",
    "collect",
    "verify",
    "scrub",
    "repair",
    "import",
    "purge",
    "erase",
    "configure",
    "disable",
    "undelete",
    "delete",
    "register",
    "unregister",
]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What to run. Ids are GUID texts of catalog rows.

    ``container_id``: the container whose agent does the work (backup, restore). ``parameters``, by
    kind:
    backup: retainUntil (ISO time or None) of an on-demand backup, missedSlots (count), policyName
    (which the ledger adds);
    restore: recoveryPointId, paths, target (folder or None for the original place), conflict,
    dryRun; ``item_id`` names the item the point belongs to;
    browse: recoveryPointId, target (what to list of a virtual machine's point);
    expire: drops ({point id: reason}) and explicit for a person's deletion, thenCollect; nothing
    for what retention says;
    verify: items (keys) or nothing for all;
    purge: removes an item (``item_id``) for good; immediate for a person's deletion, nothing when
    the period of its deletion has run out;
    erase: removes a vault for good, once the period of its deletion has run out.
    Of the other kinds only a record is made: their work is a change in the catalog.
    """

    kind: JobKind
    vault_id: str
    entity_name: str
    item_id: str | None = None
    container_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    created_by: str = ""
    scheduled: bool = False
    slot_at: datetime | None = None


class Jobs(Protocol):
    """Submitting and steering jobs."""

    def submit(self, spec: JobSpec) -> str:
        """Create the job and let it run; returns its id.

        ConflictError (UserErrorBackupOperationInProgress) when the item's backup runs already."""
        ...

    def create(self, transaction: Any, spec: JobSpec) -> str:
        """As ``submit``, but inside the caller's catalog transaction (an SQLAlchemy connection), so
        that the job is committed together with other rows. Call ``wake`` after the commit."""
        ...

    def record(self, transaction: Any, spec: JobSpec, result: Mapping[str, Any]) -> str:
        """Write a job down that the caller's transaction does: it has ended. Returns its id."""
        ...

    def cancel(self, job_id: str, by: str) -> None:
        """Ask a job to stop. ConflictError when it has ended or cannot be cancelled."""
        ...

    def wake(self) -> None:
        """Look for due work now rather than at the next tick."""
        ...

    def healthy(self) -> bool:
        """Whether the engine runs."""
        ...
