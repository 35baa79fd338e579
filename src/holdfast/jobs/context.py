"""What the procedures of jobs work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection

from holdfast.catalog import jobs as rows
from holdfast.catalog.database import Catalog
from holdfast.catalog.jobs import JobRow
from holdfast.jobs.bell import Bell
from holdfast.jobs.ledger import Ledger
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.settings import JobSettings
from holdfast.ports.clock import Clock
from holdfast.vaultstore.layout import VaultObjects
from holdfast.vaultstore.vault import Vault

OpenVault = Callable[[str], Vault]
Step = Callable[[JobRow, Mapping[str, Any]], Outcome]


class VaultDoor(Protocol):
    """A vault from outside, by its catalog id."""

    def objects(self, vault_id: str) -> VaultObjects:
        """Its objects, whether it can be opened or not."""
        ...

    def forget(self, vault_id: str) -> None:
        """Close it, if it is open."""
        ...


@dataclass(frozen=True, slots=True)
class JobContext:
    """``open_vault`` gives the opened vault of a catalog id. ``stopping``: the server is going
    down, long steps should pause. ``door``: for erasing vaults."""

    catalog: Catalog
    ledger: Ledger
    open_vault: OpenVault
    settings: JobSettings
    bell: Bell
    stopping: Callable[[], bool]
    door: VaultDoor | None = None

    @property
    def clock(self) -> Clock:
        return self.ledger.clock

    def asked_to_cancel(self, job_id: str) -> bool:
        with self.catalog.read() as connection:
            job = rows.get_job(connection, job_id)
        return job is None or job.status != "InProgress"


class Procedure(Protocol):
    """How one kind of job is done: steps in order, each idempotent, re-run from the first at every
    turn; and what follows from its end, in the transaction that ends it."""

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]: ...

    def release(self, job: JobRow) -> None:
        """Give back what the job holds outside the catalog. Runs before it ends, maybe twice."""
        ...

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None: ...
