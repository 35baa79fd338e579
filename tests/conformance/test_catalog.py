"""The catalog's promises, held by SQLite and by PostgreSQL alike."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen

from holdfast.catalog import (
    daily,
    heads,
    items,
    jobs,
    migrate,
    operations,
    points,
    rows,
    tables,
    tasks,
    vaults,
)
from holdfast.catalog.copying import copy_sqlite
from holdfast.catalog.database import Catalog
from holdfast.catalog.filesystems import filesystem_type
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.points import PointRow
from holdfast.errors import ConflictError, UsageError
from holdfast.jobs.ledger import Ledger
from holdfast.ports.jobs import JobSpec
from holdfast.testing.catalog_rows import Estate, furnish
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.head import Head

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
LEASE, SECOND = timedelta(minutes=2), timedelta(seconds=1)


@pytest.fixture
def rng() -> SeededRandom:
    return SeededRandom(7)


@pytest.fixture
def estate(catalog: Catalog, rng: SeededRandom) -> Estate:
    with catalog.write() as connection:
        return furnish(connection, rng, NOW)


def submit(catalog: Catalog, rng: SeededRandom, spec: JobSpec, now: datetime = NOW) -> str:
    ledger = Ledger(MovableClock(now), rng)
    with catalog.write() as connection:
        return ledger.create(connection, spec).id


def backup_of(estate: Estate) -> JobSpec:
    return JobSpec(
        "backup", estate.vault.id, "docs", item_id=estate.item.id, container_id=estate.container.id
    )


def test_migrations_build_exactly_the_tables_in_code(catalog: Catalog) -> None:
    with catalog.read() as connection:
        assert migrate.differences(connection) == []
        assert migrate.current_revision(connection) == migrate.newest_revision()
    assert migrate.upgrade(catalog.engine) == ""


def test_a_newer_catalog_is_refused_and_left_alone(catalog: Catalog) -> None:
    with catalog.write() as connection:
        connection.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = 'later'"))
    with pytest.raises(ConflictError) as caught:
        migrate.upgrade(catalog.engine)
    assert caught.value.code == "CatalogTooNew"
    with catalog.read() as connection:
        assert migrate.current_revision(connection) == "later"


def test_an_sqlite_file_is_copied_before_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog = Catalog.open(f"sqlite:///{path}")
    migrate.upgrade(catalog.engine)
    with catalog.write() as connection:
        furnish(connection, SeededRandom(1), NOW)
    copy = copy_sqlite(catalog.engine, "0001")
    catalog.close()
    with closing(sqlite3.connect(copy)) as opened:
        assert opened.execute("SELECT count(*) FROM hf_items").fetchone() == (1,)
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_times_come_back_aware_and_naive_ones_are_refused(catalog: Catalog, estate: Estate) -> None:
    local = datetime(2026, 7, 1, 3, 0, tzinfo=timezone(timedelta(hours=2)))
    with catalog.write() as connection:
        items.change_item(connection, estate.item.id, next_run_at=local)
    with catalog.read() as connection:
        found = items.get_item(connection, estate.item.id)
    assert found is not None
    assert found.next_run_at == local
    assert found.next_run_at.utcoffset() == timedelta(0)
    assert found.created_at == NOW
    with pytest.raises(Exception, match="naive"), catalog.write() as connection:
        items.change_item(connection, estate.item.id, next_run_at=datetime(2026, 1, 1))


def test_rows_come_back_as_they_went_in(catalog: Catalog, estate: Estate) -> None:
    with catalog.read() as connection:
        assert vaults.get_vault(connection, estate.vault.id) == estate.vault
        found = vaults.find_vault(connection, estate.vault.subscription_id, "RG1", "V1")
        assert found == estate.vault
        assert items.get_item(connection, estate.item.id) == estate.item
        assert items.find_item(connection, estate.container.id, "fileFOLDER;docs") == estate.item


def test_one_active_backup_per_item(catalog: Catalog, estate: Estate, rng: SeededRandom) -> None:
    first = submit(catalog, rng, backup_of(estate))
    with pytest.raises(ConflictError) as caught:
        submit(catalog, rng, backup_of(estate))
    assert caught.value.code == "UserErrorBackupOperationInProgress"
    with catalog.read() as connection:
        job = jobs.get_job(connection, first)
    assert job is not None
    with pytest.raises(ConflictError) as caught, catalog.write() as connection:
        jobs.add_job(connection, replace(job, id=new_id(rng)))
    assert caught.value.code == "CatalogConflict"
    with catalog.write() as connection:
        assert jobs.change_job(connection, first, status="Completed", ended_at=NOW) == 1
    second = submit(catalog, rng, backup_of(estate))
    assert second != first


def test_racing_submissions_make_one_job(catalog: Catalog, estate: Estate) -> None:
    made: list[str] = []
    refused: list[str] = []
    gate = threading.Barrier(6)

    def race(number: int) -> None:
        gate.wait()
        try:
            made.append(submit(catalog, SeededRandom(100 + number), backup_of(estate)))
        except ConflictError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(refused) == 5


def test_pages_hold_every_row_once_in_order(
    catalog: Catalog, estate: Estate, rng: SeededRandom
) -> None:
    spec = JobSpec("verify", estate.vault.id, "v1")
    times = [NOW + timedelta(seconds=number // 3) for number in range(23)]
    made = [submit(catalog, rng, spec, at) for at in times]
    seen: list[str] = []
    token = ""
    with catalog.read() as connection:
        while True:
            page = jobs.page_jobs(connection, estate.vault.id, limit=5, token=token)
            seen += [row.id for row in page.rows]
            token = page.next_token
            if not token:
                break
    expected = sorted(zip(times, made, strict=True), reverse=True)
    assert seen == [job_id for _, job_id in expected]


@pytest.mark.parametrize("token", ["x", "WzFd", "bm9uc2Vuc2U", "W10", "Wy0xLCJhIl0", "é"])
def test_forged_tokens_are_refused(catalog: Catalog, estate: Estate, token: str) -> None:
    with pytest.raises(UsageError) as caught, catalog.read() as connection:
        jobs.page_jobs(connection, estate.vault.id, token=token)
    assert caught.value.code == "InvalidSkipToken"


def test_a_turn_ends_once_and_misses_no_signal(
    catalog: Catalog, estate: Estate, rng: SeededRandom
) -> None:
    job_id = submit(catalog, rng, backup_of(estate))
    later = NOW + timedelta(hours=1)
    with catalog.write() as connection:
        assert jobs.end_turn(connection, job_id, 0, seen_signals=0, wake_at=None, now=NOW) == 1
        assert jobs.end_turn(connection, job_id, 0, seen_signals=0, wake_at=None, now=NOW) == 0
    with catalog.read() as connection:
        assert jobs.jobs_to_drive(connection, later) == []
    with catalog.write() as connection:
        jobs.signal_job(connection, job_id, NOW)
        jobs.end_turn(connection, job_id, 1, seen_signals=0, wake_at=later, now=NOW)
    with catalog.read() as connection:
        due = jobs.jobs_to_drive(connection, NOW)
    assert [(job.id, job.turn, job.signals) for job in due] == [(job_id, 2, 1)]


def _task(catalog: Catalog, estate: Estate, rng: SeededRandom) -> tasks.TaskRow:
    job_id = submit(catalog, rng, backup_of(estate))
    task = tasks.TaskRow(
        id=new_id(rng),
        job_id=job_id,
        agent_id=estate.agent.id,
        vault_id=estate.vault.id,
        kind="files-backup",
        item_key=estate.item.item_key,
        payload={"includePaths": ["/data"]},
        state=tasks.QUEUED,
        fence=0,
        lease_until=None,
        cancel_requested=False,
        progress={},
        outcome="",
        error={},
        result={},
        created_at=NOW,
        updated_at=NOW,
        ended_at=None,
    )
    with catalog.write() as connection:
        tasks.add_task(connection, task)
    return task


def test_a_task_is_leased_to_one_of_many(
    catalog: Catalog, estate: Estate, rng: SeededRandom
) -> None:
    task = _task(catalog, estate, rng)
    until = NOW + timedelta(minutes=1)
    won: list[int] = []

    def lease(number: int) -> None:
        with catalog.write() as connection:
            if tasks.lease_task(connection, task.id, 0, until, NOW):
                won.append(number)

    threads = [threading.Thread(target=lease, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    with catalog.write() as connection:
        found = tasks.get_task(connection, task.id)
        assert found is not None
        assert (found.state, found.fence, found.lease_until) == (tasks.LEASED, 1, until)
        assert tasks.lapsing_tasks(connection, until, LEASE) == []
        assert [row.id for row in tasks.lapsing_tasks(connection, until + SECOND, LEASE)]
        assert tasks.lapsing_tasks(connection, NOW - timedelta(days=9), LEASE) == [found]
        assert tasks.mark_lapsed(connection, found, until + timedelta(seconds=1))
        assert not tasks.mark_lapsed(connection, found, until + timedelta(seconds=2))
        assert not tasks.change_task(connection, task.id, fence=0, state=tasks.DONE)
        assert tasks.change_task(connection, task.id, fence=1, state=tasks.DONE)
        assert not tasks.change_task(connection, task.id, fence=1, state=tasks.LEASED)


def test_findings_are_kept_once_and_counted(
    catalog: Catalog, estate: Estate, rng: SeededRandom
) -> None:
    job_id = submit(catalog, rng, backup_of(estate))
    found = [
        jobs.FindingRow(job_id, "Unreadable", f"/data/\udcff{number}".encode(
            errors="backslashreplace").decode(), "denied", f"{number % 4:064d}")
        for number in range(10)
    ]  # fmt: skip
    with catalog.write() as connection:
        assert jobs.add_findings(connection, job_id, found) == 4
        assert jobs.add_findings(connection, job_id, found[:2]) == 0
        assert jobs.count_findings(connection, job_id) == 4
        assert len(jobs.findings_of(connection, job_id)) == 4


def test_old_jobs_leave_with_all_that_hangs_on_them(
    catalog: Catalog, estate: Estate, rng: SeededRandom
) -> None:
    task = _task(catalog, estate, rng)
    ended = NOW + timedelta(minutes=1)
    session = tasks.AgentSession(
        "ab" * 16, estate.vault.id, estate.agent.id, task.id, 1, "backup", 0, 0, 0, 0, NOW, None
    )
    with catalog.write() as connection:
        tasks.add_session(connection, session)
        tasks.add_counts(connection, session.id, tasks.SessionCounts(41, 1, asked_ids=7))
        counted = tasks.get_session(connection, session.id)
        assert counted is not None
        assert (counted.received_bytes, counted.received_packs) == (41, 1)
        assert (counted.asked_ids, counted.present_ids) == (7, 0)
        jobs.change_job(connection, task.job_id, status="Failed", ended_at=ended)
    with catalog.write() as connection:
        assert jobs.remove_jobs_before(connection, ended) == 0
        assert jobs.remove_jobs_before(connection, ended + timedelta(seconds=1)) == 1
        for table in (tables.jobs, tables.job_history, tables.agent_tasks, tables.agent_sessions):
            assert connection.execute(table.select()).first() is None


def test_points_page_newest_first_and_are_put_once(
    catalog: Catalog, estate: Estate, rng: SeededRandom
) -> None:
    made = [_point(estate, new_id(rng), number) for number in range(7)]
    with catalog.write() as connection:
        for point in made:
            assert points.put_point(connection, point)
            assert not points.put_point(connection, point)
        page = points.page_points(connection, estate.item.id, limit=3)
        rest = points.page_points(connection, estate.item.id, limit=9, token=page.next_token)
        assert page.rows + rest.rows == made[::-1]
        assert points.latest_point(connection, estate.item.id) == made[-1]
        points.remove_points(connection, estate.vault.id, [made[-1].rp_id])
        assert points.latest_point(connection, estate.item.id) == made[-2]


def _point(estate: Estate, job_id: str, number: int) -> PointRow:
    at = NOW + timedelta(days=number)
    return PointRow(
        vault_id=estate.vault.id,
        rp_id=str(int(at.timestamp() * 1000) * 1_000_000 + number),
        item_id=estate.item.id,
        job_id=job_id,
        sequence=number,
        time=at,
        type="Full",
        scheduled=True,
        tags=["daily"],
        retain_until=None,
        logical_bytes=5_000_000_000_000,
        transferred_bytes=1,
        stored_bytes=1,
        file_count=1,
        findings_count=0,
        consistency="CrashConsistent",
        consistency_reason="",
    )


def test_writers_wait_for_each_other_instead_of_failing(catalog: Catalog, estate: Estate) -> None:
    def count(_number: int) -> None:
        for _ in range(10):
            with catalog.write() as connection:
                found = vaults.get_vault(connection, estate.vault.id)
                assert found is not None
                vaults.lock_vault(connection, estate.vault.id)
                found = vaults.get_vault(connection, estate.vault.id)
                assert found is not None
                head = found.head_sequence + 1
                vaults.change_vault(connection, found.id, head_sequence=head)

    threads = [threading.Thread(target=count, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with catalog.read() as connection:
        found = vaults.get_vault(connection, estate.vault.id)
    assert found is not None
    assert found.head_sequence == 50


def test_many_who_ask_at_once_get_as_many_as_a_day_has(catalog: Catalog) -> None:
    got: list[bool] = []
    gate = threading.Barrier(6)

    def ask() -> None:
        gate.wait()
        with catalog.write() as connection:
            got.append(daily.take_one(connection, "item", "restore", NOW.date(), 2))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 4 + [True] * 2
    with catalog.write() as connection:
        daily.give_back(connection, "item", "restore", NOW.date())
        again = [daily.take_one(connection, "item", "restore", NOW.date(), 2) for _ in range(2)]
        assert again == [True, False]
        assert daily.take_one(connection, "item", "restore", NOW.date() + timedelta(days=1), 2)


def test_the_head_that_is_remembered_never_goes_back(catalog: Catalog, estate: Estate) -> None:
    def head(sequence: int, term: int) -> Head:
        return Head(sequence=sequence, term=term, hash=bytes([sequence]) * 32)

    for given, kept in (((5, 1), True), ((4, 1), False), ((3, 2), True), ((9, 1), False)):
        with catalog.write() as connection:
            assert bool(heads.note_head(connection, estate.vault.id, head(*given))) is kept
    row = heads.WitnessRow(estate.vault.id, estate.container.id, "a", 7, 1, "aa" * 32, NOW)
    for sequence in (7, 8):
        with catalog.write() as connection:
            heads.keep_witness(connection, replace(row, sequence=sequence))
    with catalog.write() as connection:
        vault = vaults.get_vault(connection, estate.vault.id)
        assert vault is not None
        seen = heads.witnesses_of(connection, vault)
    assert [(one.sequence, one.term, one.by) for one in seen] == [
        (3, 2, heads.BY_SERVER),
        (8, 1, "a"),
    ]


def test_a_failed_transaction_leaves_nothing(catalog: Catalog, estate: Estate) -> None:
    class Stop(Exception):
        pass

    with pytest.raises(Stop), catalog.write() as connection:
        items.change_item(connection, estate.item.id, friendly_name="other")
        raise Stop
    with catalog.read() as connection:
        assert items.get_item(connection, estate.item.id) == estate.item


def test_etags_guard_changes(catalog: Catalog, estate: Estate) -> None:
    with catalog.write() as connection:
        assert items.change_item(connection, estate.item.id, if_etag="old", etag="e2") == 0
        assert items.change_item(connection, estate.item.id, if_etag="e1", etag="e2") == 1


def test_a_text_the_database_refuses_is_no_defect(catalog: Catalog, estate: Estate) -> None:
    """SQLite keeps any text; PostgreSQL has no NUL and minds the length of columns."""

    def kept(**values: str) -> bool:
        try:
            with catalog.write() as connection:
                return bool(vaults.change_vault(connection, estate.vault.id, **values))
        except UsageError as error:
            assert error.code == "InvalidText"
            return False

    assert kept(location="x" * 100)
    assert kept(location="x" * 101) is catalog.is_sqlite
    with contextlib.suppress(UsageError), catalog.read() as connection:
        assert vaults.get_vault(connection, "a\0b") is None


def test_sqlite_refuses_network_folders() -> None:
    table = "/dev/sda1 / ext4 rw 0 0\nserver:/x /tmp nfs4 rw 0 0\nnone /tmp/deep tmpfs rw 0 0\n"
    assert filesystem_type(Path("/tmp/data"), table) == "nfs4"
    assert filesystem_type(Path("/tmp/deep/er"), table) == "tmpfs"
    assert filesystem_type(Path("/srv"), table) == "ext4"


def test_a_wrong_url_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        Catalog.open("mysql://nowhere/x")
    assert caught.value.code == "CatalogUrlInvalid"
    assert rows.MAX_PAGE == 1000


def test_hot_queries_use_an_index(tmp_path: Path) -> None:
    catalog = Catalog.open(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    migrate.upgrade(catalog.engine)
    asked: list[tuple[str, object]] = []

    def note(_c: object, _cursor: object, text_: str, values: object, *_: object) -> None:
        asked.append((text_, values))

    listen(catalog.engine, "before_cursor_execute", note)
    with catalog.read() as connection:
        jobs.jobs_to_drive(connection, NOW)
        jobs.page_jobs(connection, "v")
        jobs.active_backup_of(connection, "i")
        items.items_due(connection, NOW)
        items.page_items(connection, "v")
        points.page_points(connection, "i")
        points.latest_point(connection, "i")
        points.point_of_job(connection, "j")
        tasks.open_tasks_of(connection, "a")
        tasks.task_of_job(connection, "j")
        tasks.lapsing_tasks(connection, NOW, LEASE)
        tasks.agents_with_news(connection)
        items.items_without_due_time(connection, ["Protected"])
        jobs.active_jobs(connection)
        jobs.active_jobs_of(connection, "v")
        vaults.vaults_due(connection, NOW)
        operations.operations_of_job(connection, "j")
    catalog.close()
    with closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as opened:
        for statement, values in asked:
            plan = opened.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            whole = [row[3] for row in plan if row[3].startswith("SCAN") and "INDEX" not in row[3]]
            assert whole == [], statement
