"""The erase job: a deleted vault goes for good, objects first, then every row about it.

The plan is made and written into the job's history before anything is touched: how many objects,
how many bytes, and why. From then on the vault is marked as going, and cannot be brought back. Its
descriptor goes first, so that a half erased vault is never taken for a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import audit, items, jobs, policies, vaults
from holdfast.catalog.containers import page_containers, remove_container
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.machines import remove_machines_of_vault
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.alerts import Cause
from holdfast.domain.immutability import is_immutable
from holdfast.domain.soft_delete import is_over
from holdfast.errors import InternalError
from holdfast.jobs import outcome
from holdfast.jobs.alerting import Said
from holdfast.jobs.context import JobContext, Step, VaultDoor
from holdfast.jobs.outcome import Outcome
from holdfast.vaultstore.layout import DESCRIPTOR

PURGING = "Purging"
ACTION = "Microsoft.RecoveryServices/vaults/purge"
LOOK_EVERY = 64  # deletions between two looks at whether the server stops


class EraseProcedure:
    """Plans, deletes every object of the vault, then forgets it."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("plan", self._plan), ("erase", self._erase))

    @property
    def _door(self) -> VaultDoor:
        if self._context.door is None:
            raise InternalError("this server cannot erase vaults")
        return self._context.door

    def _plan(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        context = self._context
        with context.catalog.read() as connection:
            row = vaults.get_vault(connection, job.vault_id)
        begun = row is not None and row.state == PURGING  # there is no way back from that
        if row is None or not (begun or self._is_due(row)):
            return outcome.done({"objects": 0}, ["kept", "it was undeleted, or is locked still"])
        sizes = [info.size for info in self._door.objects(row.id).list()]
        with context.catalog.write() as connection:
            vaults.change_vault(connection, row.id, state=PURGING)
            message = f"{len(sizes)} objects of {sum(sizes)} bytes go: {_why(row)}"
            context.ledger.note(connection, job.id, "planned", message)
        return outcome.go(objects=len(sizes), bytes=sum(sizes))

    def _is_due(self, row: VaultRow) -> bool:
        now = self._context.clock.now()
        over = is_over(row.deleted_at, row.purge_at, row.days_deleted, now)
        return over and not self._is_held(row)

    def _is_held(self, row: VaultRow) -> bool:
        """Whether something of an immutable vault has not reached its lock horizon; then the store
        would refuse, and it is tried again at the next maintenance."""
        if not is_immutable(row.immutability):
            return False
        return self._context.open_vault(row.id).locked_until() is not None

    def _erase(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        self._door.forget(job.vault_id)
        objects = self._door.objects(job.vault_id)
        objects.delete(DESCRIPTOR)
        deleted = 1
        while keys := [info.key for info in objects.list()]:
            for key in keys:
                if deleted % LOOK_EVERY == 0 and self._context.stopping():
                    note = ["paused", "the server stops; the job goes on after its start"]
                    now = self._context.clock.now()
                    return outcome.wait(now, "Paused", "waiting for the server", note)
                objects.delete(key)
                deleted += 1
        result = {"objects": memory["objects"], "freedBytes": memory["bytes"]}
        return outcome.done(result, ["purged", f"{memory['bytes']} bytes freed"])

    def release(self, job: JobRow) -> None:
        """Nothing is held."""

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        """Forget the vault, and this job with it; the audit record keeps what was done."""
        row = vaults.get_vault(connection, job.vault_id)
        if status != "Completed" or row is None or row.state != PURGING:
            return
        now = self._context.clock.now()
        details = {"name": row.name, "reason": _why(row), **job.result}
        audit.append(connection, audit.by_server(now, ACTION, f"vault {row.id}", details, ""))
        self._tell(connection, row, job)
        forget_rows(connection, row)

    def _tell(self, connection: Connection, row: VaultRow, job: JobRow) -> None:
        """The alert goes with the vault; the message about it is still sent."""
        text = f"the deleted vault {row.name} is gone for good: {job.result['freedBytes']} bytes"
        said = Said(row.name, text, "", {"vaultName": row.name, **job.result})
        cause = Cause("PurgeComplete", row.id, "happened")
        self._context.ledger.alerts.note(connection, row.id, cause, said)


def _why(row: VaultRow) -> str:
    return f"vault {row.name} was deleted at {row.deleted_at:%Y-%m-%d %H:%M} UTC"


def forget_rows(connection: Connection, row: VaultRow) -> None:
    """Take a vault and everything about it off the catalog."""
    for item in items.items_of_vault(connection, row.id):
        items.remove_item(connection, item.id)
    while machines := page_containers(connection, row.id, limit=1000).rows:
        for container in machines:
            remove_container(connection, container.id)
    for policy in policies.list_policies(connection, row.id):
        policies.remove_policy(connection, policy.id)
    jobs.remove_jobs_of_vault(connection, row.id)
    remove_machines_of_vault(connection, row.id)
    vaults.remove_vault(connection, row.id)
