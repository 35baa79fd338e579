"""The restore job: the target's agent reads the point and writes the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items
from holdfast.catalog.jobs import JobRow
from holdfast.errors import NotFoundError
from holdfast.jobs import outcome
from holdfast.jobs.agent_work import AgentWork
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.outcome import Outcome


class RestoreProcedure:
    """The agent keeps a journal, so a task handed out again goes on where it was."""

    def __init__(self, context: JobContext) -> None:
        self._work = AgentWork(context, _payload)

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (
            ("dispatch", self._work.dispatch),
            ("assess", self._work.assess),
            ("report", self._report),
        )

    def _report(self, _job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        return outcome.done(dict(memory.get("result") or {}), ["restored", "the agent is done"])

    def release(self, job: JobRow) -> None:
        self._work.release(job)

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        self._work.close(connection, job)


def _payload(connection: Connection, job: JobRow) -> tuple[str, str, dict[str, Any]]:
    item = items.get_item(connection, job.item_id or "")
    if item is None:
        raise NotFoundError("the protected item was removed", code="ItemNotFound")
    asked = job.parameters
    payload = {
        "recoveryPointId": asked["recoveryPointId"],
        "paths": asked.get("paths") or [],
        "target": asked.get("target"),
        "conflict": asked.get("conflict") or "overwrite",
        "dryRun": bool(asked.get("dryRun")),
    }
    return "files-restore", item.item_key, payload
