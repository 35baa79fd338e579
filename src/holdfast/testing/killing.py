"""Killing a job yard at a named point and seeing that the job survives it."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from holdfast.adapters.object_store.local import LocalStore
from holdfast.catalog import items, jobs, points, tables
from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import id_bytes
from holdfast.catalog.jobs import JobRow
from holdfast.testing.job_yard import (
    CHANGED,
    FILES,
    INCREMENTAL,
    STORE,
    VAULT_ID,
    JobYard,
    live,
    prepare,
    yard_store,
)
from holdfast.testing.servers import S3Service
from holdfast.testing.warm import FORKING

PROCESS_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Survivor:
    """What was found after a killed job went on: the job, its history, bytes received for it, and
    whether it was still under way when the kill hit."""

    job: JobRow
    history: list[str]
    received_bytes: int
    was_active: bool


def in_s3(service: S3Service, folder: Path) -> dict[str, str]:
    """What puts the vault of the yard in ``folder`` into an S3 service, for ``kill_and_go_on``."""
    store = {"url": f"s3://yards{folder}", "credentials": service.credentials}
    return {STORE: json.dumps(store)}


def run_yard(folder: Path, url: str, kind: str, environment: Mapping[str, str]) -> int:
    """One server's life as a process; its exit code."""
    return _run(folder, live, (folder, url, kind, environment))


def prepare_yard(folder: Path, url: str, kind: str) -> None:
    """A yard in which only the job of this kind is missing, to be copied."""
    folder.mkdir(parents=True)
    code = _run(folder, prepare, (folder, url, kind))
    assert code == 0, (folder / "yard.log").read_text()[-3000:]


def copy_yard(prepared: Path, folder: Path, place: Mapping[str, str] | None) -> None:
    """The files of a prepared yard once more, and its vault to where ``place`` (see ``in_s3``)
    says. An SQLite catalog is among the files; another is the caller's to copy."""
    shutil.copytree(prepared, folder)
    if place:
        target = yard_store(folder, place)
        source = LocalStore(folder / "vaults")
        for found in source.list(""):
            target.create(found.key, source.read(found.key))
        shutil.rmtree(folder / "vaults")


def _run(folder: Path, life: Callable[..., None], words: tuple[Any, ...]) -> int:
    process = FORKING.Process(target=life, args=words)
    process.start()
    process.join(PROCESS_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"the yard does not end: {(folder / 'yard.log').read_text()[-3000:]}")
    return process.exitcode


def points_of(folder: Path, url: str, kind: str) -> list[str]:
    """Every crash point a job of this kind passes, in order, as ``NAME@N``."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "points"
    code = run_yard(folder, url, kind, {"HOLDFAST_TEST_CRASH_LOG": str(log)})
    if code != 0:
        raise AssertionError(f"the yard ended with {code}: {(folder / 'yard.log').read_text()}")
    return log.read_text().split()


def kill_and_go_on(
    folder: Path,
    url: str,
    kind: str,
    point: str,
    successor: str = "yard",
    store: Mapping[str, str] | None = None,
) -> Survivor:
    """Kill a server at ``point`` of a running job, start it again (or, with another name, a second
    server of the same catalog), and check what must hold. ``store``: see ``in_s3``."""
    place = dict(store or {})
    folder.mkdir(parents=True, exist_ok=True)
    code = run_yard(folder, url, kind, {**place, "HOLDFAST_TEST_CRASH": point})
    assert code == -signal.SIGKILL, f"{point}: ended with {code}, was not killed"
    marker = folder / f"submitted-{kind}"
    latest = _latest_job(url)
    if not marker.exists():  # killed before the submitter noted the id: the row knows it
        marker.write_text(latest.id)
    assert marker.read_text() == latest.id, f"{point}: killed in a job of the preparation"
    code = run_yard(folder, url, kind, {**place, "YARD_DRIVER": successor})
    assert code == 0, f"{point}: {(folder / 'yard.log').read_text()[-3000:]}"
    return _inspect(folder, url, latest, place, CHANGED if kind == INCREMENTAL else FILES)


def _latest_job(url: str) -> JobRow:
    catalog = Catalog.open(url)
    try:
        with catalog.read() as connection:
            return jobs.page_jobs(connection, VAULT_ID, limit=1).rows[0]
    finally:
        catalog.close()


def _inspect(
    folder: Path,
    url: str,
    killed: JobRow,
    place: Mapping[str, str],
    files: Mapping[bytes, bytes],
) -> Survivor:
    """``killed``: the job as the kill left it. ``files``: what a backup's point holds."""
    job_id, kind = killed.id, killed.kind
    with JobYard(folder, url, store=yard_store(folder, place)) as yard:
        job = yard.job(job_id)
        assert job.status == "Completed", (job, yard.history(job_id))
        with yard.catalog.read() as connection:
            assert jobs.active_jobs(connection) == []
            listed = points.point_ids(connection, VAULT_ID)
            received = connection.execute(
                select(tables.agent_sessions.c.received_bytes)
                .join(tables.agent_tasks)
                .where(tables.agent_tasks.c.job_id == job_id)
            ).scalars()
            total = sum(received)
        stored = yard.vault.statistics().stored_bytes
        assert total <= stored, f"{total} bytes were received for a vault of {stored}"
        live = yard.vault.recovery_points()
        assert {record.rp_id for record in live} == listed, "catalog and vault agree"
        assert yard.vault.open_sessions() == []
        if kind == "backup":
            _one_point_that_restores(yard, job_id, files)
        history = yard.history(job_id)
        if kind == "purge":
            with yard.catalog.read() as connection:
                assert items.items_of_vault(connection, VAULT_ID) == []
            assert live == []
            return Survivor(job, history, total, killed.active)
        assert yard.run("backup").status == "Completed", "no lock was left behind"
        return Survivor(job, history, total, killed.active)


def _one_point_that_restores(yard: JobYard, job_id: str, files: Mapping[bytes, bytes]) -> None:
    live = yard.vault.recovery_points()
    made = [record for record in live if record.job_id == id_bytes(job_id)]
    assert len(made) == 1, "exactly one recovery point"
    restored = yard.run("restore", recoveryPointId=made[0].rp_id)
    assert restored.status == "Completed"
    assert yard.agent.restored == files
