"""The purge job: the data of a deleted item goes for good, then the item, then its machine.

It is planned from the vault itself, so that all of the item's points go, and checked against the
catalog when it runs: an item that was undeleted meanwhile is left alone. From the job's creation on
an undeletion is refused, so nothing is brought back that is half gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, vaults
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.domain.alerts import Cause
from holdfast.domain.lifecycle import CONTAINER_SOFT_DELETED
from holdfast.domain.soft_delete import is_over
from holdfast.domain.virtual_machines import MANAGEMENT
from holdfast.jobs import outcome
from holdfast.jobs.alerting import Said
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.expire import collect_next, mirror_points
from holdfast.jobs.locks import tell_immutability
from holdfast.jobs.outcome import Outcome

KEPT = {"droppedPoints": 0, "kept": True}


class PurgeProcedure:
    """Plans, drops the item's points by one record, then takes the item off the catalog."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("plan", self._plan), ("apply", self._apply), ("mirror", self._mirror))

    def _plan(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        item = self._item(job)
        if item is None:
            return outcome.done({"droppedPoints": 0}, ["purged", "the item is gone already"])
        why = self._why(job, item)
        if not why:
            return outcome.done(KEPT, ["kept", "the item was undeleted meanwhile"])
        vault = self._context.open_vault(job.vault_id)
        vault.refresh()
        return outcome.go(drops={one.rp_id: why for one in vault.recovery_points(item.item_key)})

    def _item(self, job: JobRow) -> ItemRow | None:
        with self._context.catalog.read() as connection:
            return items.get_item(connection, job.item_id or "")

    def _why(self, job: JobRow, item: ItemRow) -> str:
        """Why its data goes; "" when it does not."""
        if job.parameters.get("immediate"):
            return f"data deleted by {job.created_by}"
        now = self._context.clock.now()
        if not is_over(item.deleted_at, item.purge_at, item.days_deleted, now):
            return ""
        return f"deleted at {item.deleted_at:%Y-%m-%d %H:%M} UTC, kept until its period ended"

    def _apply(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        vault = self._context.open_vault(job.vault_id)
        tell_immutability(self._context.catalog, vault, job.vault_id)
        plan = vault.plan_expire(memory["drops"], explicit=True)
        dropped = vault.expire(plan) if plan.drops else []
        return outcome.go(dropped=len(dropped))

    def _mirror(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        records = mirror_points(self._context, job.vault_id)
        item = self._item(job)
        if item is not None and item.item_key not in {one.item_key for one in records}:
            with self._context.catalog.write() as connection:
                vaults.lock_vault(connection, item.vault_id)
                remove_item(connection, item)
        count = memory["dropped"]
        return outcome.done(
            {"droppedPoints": count}, ["purged", f"{count} recovery points are gone for good"]
        )

    def release(self, job: JobRow) -> None:
        """Nothing is held."""

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        if status == "Completed" and not job.result.get("kept"):
            self._tell(connection, job)
        if job.parameters.get("thenCollect") and status == "Completed":
            collect_next(self._context, connection, job)

    def _tell(self, connection: Connection, job: JobRow) -> None:
        name, count = job.entity_name, job.result["droppedPoints"]
        text = f"the deleted data of {name} is gone for good: {count} recovery points"
        said = Said(name, text, "", {"itemName": name, "recoveryPoints": count})
        cause = Cause("PurgeComplete", job.item_id or job.id, "happened")
        self._context.ledger.alerts.note(connection, job.vault_id, cause, said)


def remove_item(connection: Connection, item: ItemRow) -> None:
    """Take an item off the catalog, and its machine if that was unregistered and holds nothing."""
    items.remove_item(connection, item.id)
    vaults.note_life(connection, item.vault_id)
    holder = containers.get_container(connection, item.container_id)
    if holder is None:
        return
    own = holder.management_type == MANAGEMENT  # the container of a virtual machine is its alone
    if not own and holder.registration_status != CONTAINER_SOFT_DELETED:
        return
    if not items.count_items_on(connection, holder.id):
        containers.remove_container(connection, holder.id)
