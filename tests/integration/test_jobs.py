"""Jobs on the real engine, on both databases, with an agent in the same process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.catalog import containers, items, jobs, points, policies, tasks, upkeep
from holdfast.catalog import vaults as vault_rows
from holdfast.catalog.tasks import TaskRow
from holdfast.errors import (
    ConflictError,
    SourceError,
    StoreUnavailableError,
)
from holdfast.jobs.settings import JobSettings
from holdfast.services.agent_tasks import Completion, Report
from holdfast.testing.catalog_rows import DAILY
from holdfast.testing.job_yard import FILES, VAULT_ID, JobYard
from holdfast.testing.ports import MovableClock
from holdfast.testing.wait import eventually


@pytest.fixture
def yard(tmp_path: Path, catalog_url: str) -> Iterator[JobYard]:
    with JobYard(tmp_path, catalog_url) as made:
        yield made


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[JobYard]:
    """A yard (on SQLite) whose clock is moved by hand."""
    clock = MovableClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
    settings = JobSettings(tick_seconds=0.05, retry_seconds=(30.0, 60.0), lease_seconds=60.0)
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    with JobYard(tmp_path, url, clock=clock, settings=settings) as made:
        yield made


def clock_of(yard: JobYard) -> MovableClock:
    assert isinstance(yard.clock, MovableClock)
    return yard.clock


def hold(yard: JobYard) -> tuple[threading.Event, threading.Event]:
    """Make the agent stop in its next task: (it has begun, let it go on)."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_task: TaskRow) -> None:
        begun.set()
        assert go_on.wait(30)

    yard.agent.before = wait
    return begun, go_on


def point_ids(yard: JobYard) -> list[str]:
    with yard.catalog.read() as connection:
        return sorted(points.point_ids(connection, VAULT_ID))


def test_backup_restore_expire_collect_verify(yard: JobYard) -> None:
    first = yard.run("backup")
    yard.agent.files[b"a/new"] = b"new" * 5000
    second = yard.run("backup")
    assert (first.status, second.status) == ("Completed", "Completed")
    assert first.result["recoveryPointId"] < second.result["recoveryPointId"]
    item = yard.item()
    assert item.protection_state == "Protected"
    assert item.latest_point_id == second.result["recoveryPointId"]
    assert item.last_backup_status == "Completed"

    restored = yard.run("restore", recoveryPointId=first.result["recoveryPointId"])
    assert restored.status == "Completed"
    assert yard.agent.restored == FILES

    drops = {first.result["recoveryPointId"]: "asked"}
    assert yard.run("expire", drops=drops, explicit=True).result["droppedPoints"] == 1
    assert point_ids(yard) == [second.result["recoveryPointId"]]
    assert yard.run("collect").status == "Completed"
    verified = yard.run("verify")
    assert verified.status == "Completed"
    assert verified.result["recoveryPoints"] == 1
    with yard.catalog.read() as connection:
        ran = upkeep.last_run(connection, VAULT_ID, "verify")
    assert ran is not None
    assert (ran.job_id, ran.status) == (verified.id, "Completed")


def test_a_second_backup_of_an_item_is_refused_while_one_runs(yard: JobYard) -> None:
    begun, go_on = hold(yard)
    first = yard.submit("backup")
    assert begun.wait(20)
    with pytest.raises(ConflictError) as caught:
        yard.submit("backup")
    assert caught.value.code == "UserErrorBackupOperationInProgress"
    go_on.set()
    assert yard.ended(first).status == "Completed"
    assert yard.run("backup").status == "Completed"


def test_findings_make_warnings(yard: JobYard) -> None:
    found = [{"code": "FileUnreadable", "path": "/data/x", "message": "denied"}] * 2

    def report(task: TaskRow) -> None:
        said = Report("Scan", 1, None, 1, None, 0, found, "looking")
        assert not yard.desk.tasks.progress(yard.agent.row, task.id, task.fence, said)

    yard.agent.before = report
    job = yard.run("backup")
    assert job.status == "CompletedWithWarnings"
    assert job.findings_count == 1
    with yard.catalog.read() as connection:
        assert [row.path for row in jobs.findings_of(connection, job.id)] == ["/data/x"]


def test_a_users_error_fails_at_once(yard: JobYard) -> None:
    def refuse(_task: TaskRow) -> None:
        raise SourceError("/data is gone", code="SourcePathMissing", hint="put it back")

    yard.agent.before = refuse
    job = yard.run("backup")
    assert (job.status, job.error_code, job.attempt) == ("Failed", "SourcePathMissing", 1)
    assert job.error_hint == "put it back"
    assert yard.item().last_error_code == "SourcePathMissing"


def test_a_passing_fault_of_the_agent_is_tried_again(yard: JobYard) -> None:
    failures = iter([StoreUnavailableError("the server is away")])

    def fail_once(_task: TaskRow) -> None:
        for error in failures:
            raise error

    yard.agent.before = fail_once
    job = yard.run("backup")
    assert (job.status, job.attempt) == ("Completed", 2)
    assert "retried" in yard.history(job.id)


def test_a_passing_fault_of_the_store_is_tried_again_but_not_for_ever(yard: JobYard) -> None:
    yard.vault_errors += [StoreUnavailableError("the store is away")]
    job = yard.run("verify")
    assert (job.status, job.attempt) == ("Completed", 2)
    yard.vault_errors += [StoreUnavailableError("the store is away")] * 3
    job = yard.run("verify")
    assert (job.status, job.error_code) == ("Failed", "StoreUnavailable")
    assert job.attempt == 3


def test_damage_fails_a_verify_and_is_named(yard: JobYard, tmp_path: Path) -> None:
    yard.run("backup")
    pack = max(tmp_path.glob("vaults/**/packs/*/*"), key=lambda path: path.stat().st_size)
    damaged = bytearray(pack.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    pack.write_bytes(damaged)
    job = yard.run("verify")
    assert (job.status, job.error_code) == ("Failed", "VaultDamaged")
    assert pack.name in job.error_message
    assert job.findings_count == 1


def test_cancel_before_the_agent_takes_it(yard: JobYard) -> None:
    yard.agent.stop()
    job_id = yard.submit("backup")
    eventually(lambda: yard.job(job_id).phase == "Waiting", "the job waits", seconds=20)
    yard.engine.cancel(job_id, "tester")
    job = yard.ended(job_id)
    assert job.status == "Cancelled"
    assert point_ids(yard) == []
    with pytest.raises(ConflictError):
        yard.engine.cancel(job_id, "tester")
    yard.agent.start()
    assert yard.run("backup").status == "Completed"


def test_cancel_while_the_agent_works(yard: JobYard) -> None:
    begun, go_on = hold(yard)
    job_id = yard.submit("backup")
    assert begun.wait(20)
    yard.engine.cancel(job_id, "tester")
    assert yard.job(job_id).status == "Cancelling"
    task = _task_of(yard, job_id)
    report = Report("Scan", 1, None, 1, None, 0, [], "")
    assert yard.desk.tasks.progress(yard.agent.row, task.id, task.fence, report)
    handed = yard.desk.tasks.next(yard.agent.row, {task.id: task.fence})
    assert handed.cancel == [task.id]
    stopped = Completion("cancelled", {}, {}, [])
    yard.desk.tasks.complete(yard.agent.row, task.id, task.fence, stopped)
    assert yard.ended(job_id).status == "Cancelled"
    go_on.set()
    yard.agent.before = lambda _task: None
    assert yard.run("backup").status == "Completed"
    assert yard.vault.open_sessions() == []


def _task_of(yard: JobYard, job_id: str) -> TaskRow:
    with yard.catalog.read() as connection:
        task = tasks.task_of_job(connection, job_id)
    assert task is not None
    return task


def test_a_stale_fence_is_refused_everywhere(yard: JobYard) -> None:
    begun, go_on = hold(yard)
    job_id = yard.submit("backup")
    assert begun.wait(20)
    old = _task_of(yard, job_id)
    row = yard.agent.row
    grant = yard.desk.data.open_session(row, old.id, old.fence)
    new = yard.desk.tasks.next(row, {}).task  # the agent "restarted": handed out again
    assert new is not None
    assert new.fence == old.fence + 1
    session = grant.session_id.hex()
    report = Report("Scan", 1, None, 1, None, 0, [], "")
    calls = [
        lambda: yard.desk.tasks.progress(row, old.id, old.fence, report),
        lambda: yard.desk.tasks.complete(
            row, old.id, old.fence, Completion("succeeded", {}, {}, [])
        ),
        lambda: yard.desk.data.open_session(row, old.id, old.fence),
        lambda: yard.desk.data.lookup(row, session, b""),
        lambda: yard.desk.data.start_pack(row, session, bytes(16), 10),
        lambda: yard.desk.data.checkpoint(row, session, []),
    ]
    for call in calls:
        with pytest.raises(ConflictError) as caught:
            call()
        assert caught.value.code == "TaskFenced"
    assert yard.desk.tasks.next(row, {old.id: old.fence}).cancel == [old.id]
    assert "handed-out-again" in yard.history(job_id)
    go_on.set()
    yard.agent.before = lambda _task: None
    assert yard.ended(job_id).status == "Completed"
    assert len(point_ids(yard)) == 1


def test_an_agent_that_never_calls_fails_the_job(timed: JobYard) -> None:
    timed.agent.stop()
    job_id = timed.submit("backup")
    eventually(lambda: timed.job(job_id).phase == "Waiting", "the job waits", seconds=20)
    clock_of(timed).pass_time(timedelta(seconds=890))
    timed.engine.wake()
    assert timed.job(job_id).active
    clock_of(timed).pass_time(timedelta(seconds=20))
    timed.engine.wake()
    job = timed.ended(job_id)
    assert (job.status, job.error_code) == ("Failed", "AgentOffline")
    assert "Start the agent" in job.error_hint


def test_an_agent_lost_and_back_goes_on_under_the_same_fence(timed: JobYard) -> None:
    begun, go_on = hold(timed)
    job_id = timed.submit("backup")
    assert begun.wait(20)
    clock_of(timed).pass_time(timedelta(seconds=61))
    eventually(lambda: "agent-lost" in timed.history(job_id), "the loss is noticed", seconds=20)
    go_on.set()
    job = timed.ended(job_id)
    assert job.status == "Completed"
    assert "agent-back" in timed.history(job_id)


def test_an_agent_lost_for_good_fails_the_job_and_unpins_the_vault(timed: JobYard) -> None:
    begun, go_on = hold(timed)
    job_id = timed.submit("backup")
    assert begun.wait(20)
    task = _task_of(timed, job_id)
    timed.desk.data.open_session(timed.agent.row, task.id, task.fence)
    assert len(timed.vault.open_sessions()) == 1
    clock_of(timed).pass_time(timedelta(seconds=61))
    eventually(lambda: "agent-lost" in timed.history(job_id), "the loss is noticed", seconds=20)
    clock_of(timed).pass_time(timedelta(seconds=901))
    job = timed.ended(job_id)
    assert (job.status, job.error_code) == ("Failed", "AgentOffline")
    assert timed.vault.open_sessions() == []
    go_on.set()


def test_schedules_run_missed_windows_once_and_say_so(timed: JobYard) -> None:
    eventually(lambda: timed.item().next_run_at is not None, "the next run is planned", seconds=20)
    assert timed.item().next_run_at == datetime(2026, 3, 2, 13, tzinfo=UTC)
    clock_of(timed).pass_time(timedelta(hours=1, minutes=1))
    eventually(lambda: len(point_ids(timed)) == 1, "the scheduled backup", seconds=20)
    eventually(lambda: not _active(timed), "it ends", seconds=20)
    clock_of(timed).pass_time(timedelta(days=3))
    eventually(lambda: len(point_ids(timed)) == 2, "the run after the pause", seconds=20)
    eventually(lambda: not _active(timed), "it ends", seconds=20)
    with timed.catalog.read() as connection:
        listed = jobs.page_jobs(connection, VAULT_ID, operation="Backup").rows
        made = points.points_of_item(connection, timed.item().id)
    assert [job.slot_at for job in listed] == [
        datetime(2026, 3, 5, 13, tzinfo=UTC),
        datetime(2026, 3, 2, 13, tzinfo=UTC),
    ]
    assert "missed" in timed.history(listed[0].id)
    assert "missed" not in timed.history(listed[1].id)
    assert listed[0].parameters["missedSlots"] == 2
    assert [point.tags for point in made] == [["daily"], ["daily"]]
    assert all(point.scheduled for point in made)


def _active(yard: JobYard) -> bool:
    with yard.catalog.read() as connection:
        return bool(jobs.active_jobs(connection))


def test_a_failed_weekly_backup_hands_its_tag_to_the_next(timed: JobYard) -> None:
    def refuse(_task: TaskRow) -> None:
        raise SourceError("gone", code="SourcePathMissing")

    eventually(lambda: timed.item().next_run_at is not None, "the next run is planned", seconds=20)
    timed.agent.before = refuse
    clock = clock_of(timed)
    clock.jump(datetime(2026, 3, 8, 13, 1, tzinfo=UTC) - clock.now())  # a Sunday
    eventually(lambda: timed.item().last_backup_status == "Failed", "it fails", seconds=20)
    assert timed.item().missed_ranges == ["weekly"]
    timed.agent.before = lambda _task: None
    clock.pass_time(timedelta(days=1))
    eventually(lambda: timed.item().last_backup_status == "Completed", "it runs", seconds=20)
    assert timed.item().missed_ranges == []
    with timed.catalog.read() as connection:
        made = points.points_of_item(connection, timed.item().id)
    assert made[0].tags == ["daily", "weekly"]


def test_daily_maintenance_expires_then_collects(timed: JobYard) -> None:
    first = timed.run("backup", retainUntil="2026-03-03T12:00:00+00:00")
    timed.agent.files[b"a/new"] = b"new" * 5000
    second = timed.run("backup")
    clock = clock_of(timed)
    with timed.catalog.write() as connection:
        due = clock.now() + timedelta(days=2)
        vault_rows.change_vault(connection, VAULT_ID, next_maintenance_at=due)
        items.change_item(connection, timed.item().id, protection_state="BackupsSuspended")
    clock.pass_time(timedelta(days=2))

    def done() -> bool:
        with timed.catalog.read() as connection:
            return upkeep.last_run(connection, VAULT_ID, "collect") is not None

    eventually(done, "the daily collect", seconds=20)
    assert point_ids(timed) == [second.result["recoveryPointId"]]
    assert first.result["recoveryPointId"] not in point_ids(timed)


def test_many_jobs_wait_without_threads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    with JobYard(tmp_path, url) as yard:
        yard.agent.stop()
        yard.run("verify")
        threads = threading.active_count()
        item = yard.item()
        made = [
            yard.submit("restore", recoveryPointId=str(number), itemId=item.id)
            for number in range(30)
        ]
        eventually(
            lambda: all(yard.job(job_id).phase == "Waiting" for job_id in made),
            "all wait for the agent",
            seconds=40,
        )
        assert threading.active_count() <= threads + yard.engine.settings.threads
        for job_id in made:
            yard.engine.cancel(job_id, "tester")
        for job_id in made:
            assert yard.ended(job_id).status == "Cancelled"


def test_a_clock_set_back_stops_nothing_for_ever(timed: JobYard) -> None:
    begun, go_on = hold(timed)
    job_id = timed.submit("backup")
    assert begun.wait(20)
    clock_of(timed).jump(-timedelta(days=300))
    eventually(lambda: "agent-lost" in timed.history(job_id), "the lease is judged", seconds=20)
    clock_of(timed).pass_time(timedelta(seconds=850))
    go_on.set()
    assert timed.ended(job_id).status == "Completed"

    timed.agent.stop()
    waiting = timed.submit("backup")
    eventually(lambda: timed.job(waiting).phase == "Waiting", "the job waits", seconds=20)
    clock_of(timed).jump(-timedelta(days=30))
    timed.engine.pull_clock()
    eventually(lambda: timed.job(waiting).turn >= 2, "it is judged anew", seconds=20)
    clock_of(timed).pass_time(timedelta(seconds=901))
    assert timed.ended(waiting).error_code == "AgentOffline"


def test_a_turn_that_runs_only_in_the_records_is_passed_over(
    yard: JobYard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its executor was lost between noting it down and running it; nothing else may hang on it."""
    begin = yard.durable.begin
    monkeypatch.setattr("holdfast.jobs.engine.STRANDED_SECONDS", 0.3)
    monkeypatch.setattr(
        yard.durable, "begin", lambda job, turn: "noted" if turn == 0 else begin(job, turn)
    )
    job = yard.run("backup")
    assert job.status == "Completed"
    assert yard.history(job.id).count("resumed") == 1


def test_a_leap_of_the_clock_runs_no_turn_twice(timed: JobYard) -> None:
    """After it every waiting job is long overdue, which says nothing about where its turn runs."""
    timed.agent.stop()
    job_id = timed.submit("backup")
    eventually(lambda: timed.job(job_id).phase == "Waiting", "the job waits")
    clock_of(timed).pass_time(timedelta(days=3))
    timed.engine.wake()
    job = timed.ended(job_id)
    assert (job.status, job.error_code) == ("Failed", "AgentOffline")
    assert "resumed" not in timed.history(job_id)


def test_import_rebuilds_what_the_catalog_lost(yard: JobYard) -> None:
    with yard.catalog.write() as connection:
        limit = {"throttleBytesPerSecond": 5_000_000}
        items.change_item(connection, yard.item().id, properties=limit)
    yard.run("backup")
    yard.agent.files[b"more"] = b"m" * 100
    yard.run("backup")
    before = yard.item()
    with yard.catalog.write() as connection:
        listed = points.points_of_item(connection, before.id)
        items.remove_item(connection, before.id)
        for row in policies.list_policies(connection, VAULT_ID):
            policies.remove_policy(connection, row.id)
        containers.remove_container(connection, before.container_id)
    job = yard.run("import")
    assert (job.status, job.result["recoveryPoints"]) == ("Completed", 2)
    again = yard.run("import")
    assert again.status == "Completed"
    after = yard.item()
    assert (after.name, after.item_key) == (before.name, before.item_key)
    assert after.include_paths == before.include_paths
    assert after.properties == before.properties == limit
    assert after.protection_state == "ProtectionStopped"
    assert after.latest_point_id == before.latest_point_id
    with yard.catalog.read() as connection:
        found = points.points_of_item(connection, after.id)
        policy = policies.find_policy(connection, VAULT_ID, "daily")
        container = containers.find_container(connection, VAULT_ID, "Linux;web1")
    assert [replace(point, item_id="") for point in found] == [
        replace(point, item_id="") for point in listed
    ]
    assert policy is not None
    assert policy.properties == DAILY
    assert container is not None
    assert container.agent_id is None
    kept = yard.run("expire")
    assert kept.result["droppedPoints"] == 0, "a stopped item keeps everything"


def test_a_job_for_a_machine_without_agent_says_so(yard: JobYard) -> None:
    with yard.catalog.write() as connection:
        containers.change_container(connection, yard.item().container_id, agent_id=None)
    job = yard.run("backup")
    assert (job.status, job.error_code) == ("Failed", "AgentNotEnrolled")
    assert "enroll" in job.error_hint


def _run_machine(yard: JobYard) -> tuple[str, TaskRow, threading.Event]:
    """An instant restore whose agent took it, opened its session and gives no sign any more."""
    point = str(yard.run("backup").result["recoveryPointId"])
    begun, go_on = hold(yard)
    target = {"kind": "instant", "name": "web-now"}
    job_id = yard.submit("restore", recoveryPointId=point, target=target)
    assert begun.wait(20)
    task = _task_of(yard, job_id)
    yard.desk.data.open_session(yard.agent.row, task.id, task.fence)
    clock_of(yard).pass_time(timedelta(seconds=61))
    eventually(lambda: "agent-lost" in yard.history(job_id), "the loss is noticed", seconds=20)
    return job_id, task, go_on


def test_a_point_stays_pinned_however_long_the_host_of_its_machine_is_away(timed: JobYard) -> None:
    job_id, task, go_on = _run_machine(timed)
    clock_of(timed).pass_time(timedelta(days=5))
    eventually(lambda: timed.job(job_id).phase == "Waiting", "it waits", seconds=20)
    assert timed.job(job_id).status == "InProgress"
    assert len(timed.vault.open_sessions()) == 1
    handed = timed.desk.tasks.next(timed.agent.row, {})
    assert handed.task is not None
    assert handed.task.id == task.id
    go_on.set()


def test_a_machine_cancelled_while_its_host_is_away_is_removed_when_it_is_back(
    timed: JobYard,
) -> None:
    job_id, task, go_on = _run_machine(timed)
    timed.engine.cancel(job_id, "tester")
    clock_of(timed).pass_time(timedelta(days=5))
    eventually(lambda: "remove" in timed.job(job_id).detail, "it is to be removed", seconds=20)
    assert timed.job(job_id).status == "Cancelling"
    handed = timed.desk.tasks.next(timed.agent.row, {})
    assert handed.task is not None
    assert (handed.task.id, handed.task.cancel_requested) == (task.id, True)
    assert timed.desk.tasks.undone(task.id)
    stopped = Completion("cancelled", {}, {}, [])
    timed.desk.tasks.complete(timed.agent.row, task.id, handed.task.fence, stopped)
    assert timed.ended(job_id).status == "Cancelled"
    assert timed.vault.open_sessions() == []
    go_on.set()
