"""The restore job: the target's agent reads the point and writes the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items
from holdfast.catalog.jobs import JobRow
from holdfast.domain.lifecycle import soft_deleted
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import NotFoundError
from holdfast.jobs import outcome
from holdfast.jobs.agent_work import AgentWork
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.machine_work import is_test, restore_payload, write_test_report
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.safety import SafetyPoint
from holdfast.ports.vm_tasks import RESTORE as VM_RESTORE


class RestoreProcedure:
    """The agent keeps a journal, so a task handed out again goes on where it was."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._work = AgentWork(context, _payload)
        self._safety = SafetyPoint(context)

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (
            ("safety", self._safety.take),
            ("dispatch", self._work.dispatch),
            ("assess", self._work.assess),
            ("report", self._report),
        )

    def _report(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        result = dict(memory.get("result") or {})
        if memory.get("safety"):
            result["safetyPointId"] = memory["safety"]
        if result.pop("entries", None):  # a list is for who asked, and stays with the task
            return outcome.done(result, ["listed", "the agent is done"])
        note = ["restored", "the agent is done"]
        if not is_test(job):
            return outcome.done(result, note)
        with self._context.catalog.write() as connection:
            write_test_report(connection, job, result, self._context.clock.now())
        result.pop("screenshot", None)
        if result.get("passed"):
            return outcome.done(result, note)
        reason = str(result.get("reason") or "it does not say why")
        hint = "see the report: holdfast vm test NAME --recovery-point POINT --show"
        failed = outcome.fail("RestoreTestFailed", f"the restore test failed: {reason}", hint)
        return {**failed, "result": result, "note": note}

    def release(self, job: JobRow) -> None:
        self._work.release(job)

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        self._work.close(connection, job)
        if is_test(job) and status == "Failed" and "result" not in outcome:
            told = {"passed": False, "reason": outcome.get("message", "")}
            write_test_report(connection, job, told, self._context.clock.now())


def _payload(connection: Connection, job: JobRow) -> tuple[str, str, dict[str, Any]]:
    item = items.get_item(connection, job.item_id or "")
    if item is None:
        raise NotFoundError("the protected item was removed", code="ItemNotFound")
    if item.deleted_at is not None:
        raise soft_deleted(item.friendly_name)
    if item.workload_type == WORKLOAD:
        return VM_RESTORE, item.item_key, restore_payload(job, item)
    asked = job.parameters
    payload = {
        "recoveryPointId": asked["recoveryPointId"],
        "paths": asked.get("paths") or [],
        "target": asked.get("target"),
        "conflict": asked.get("conflict") or "overwrite",
        "dryRun": bool(asked.get("dryRun")),
    }
    return "files-restore", item.item_key, payload
