"""The life of an item over weeks, through the real jobs: nothing that was deleted softly, stopped
or suspended is ever lost before its time, and what was not lost comes back bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast.catalog import alerts, containers, jobs, outbox, vaults
from holdfast.catalog.alerts import Wanted
from holdfast.catalog.jobs import JobRow
from holdfast.domain.default_policies import default_policy
from holdfast.errors import ConflictError, HoldfastError, NotFoundError
from holdfast.jobs.erase import EraseProcedure
from holdfast.jobs.ticker import Ticker
from holdfast.ports.jobs import JobKind, JobSpec
from holdfast.services import containers as machines
from holdfast.services import item_life, maintenance, vault_life
from holdfast.services.alert_watch import look
from holdfast.services.policies import put_policy
from holdfast.services.vaults import change_vault, create_vault, get_vault
from holdfast.testing.premises import ANN, GROUP, HOST, ITEM, QUICK, VAULT, Premises
from holdfast.testing.servers import Postgres
from holdfast.testing.wait import eventually

BOTH = pytest.mark.parametrize("here", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Premises]:
    """On SQLite; tests marked with ``BOTH`` run on PostgreSQL as well."""
    settings = QUICK
    if getattr(request, "param", "sqlite") == "postgresql":
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.database(template=request.getfixturevalue("postgres_template"))
        settings = msgspec.structs.replace(QUICK, catalog_url=url)
    made = Premises(tmp_path / "server", settings)
    try:
        yield made
    finally:
        made.close()


def refused(code: str, call: object) -> None:
    assert callable(call)
    with pytest.raises(HoldfastError) as caught:
        call()
    assert caught.value.code == code
    assert caught.value.hint


def set_soft_delete(here: Premises, **settings: object) -> None:
    body = {"properties": {"securitySettings": {"softDeleteSettings": settings}}}
    change_vault(here.platform, GROUP, VAULT, body)


def collect(here: Premises) -> int:
    """Bytes a collect frees now."""
    job = here.ended(maintenance.start(here.platform, here.vault, "collect", ANN))
    assert job.status == "Completed", job
    return int(job.result["freedBytes"])


@BOTH
def test_deleted_data_comes_back_until_its_time_and_is_gone_after_it(here: Premises) -> None:
    here.back_up()
    before = dict(here.agent.files)
    here.agent.files[b"new"] = b"n" * 50_000
    here.back_up()
    held = here.stored()
    job = here.delete()
    assert (job.operation, job.status) == ("DeleteBackupData", "Completed")
    item = here.item()
    assert item is not None
    assert (item.protection_state, item.policy_id) == ("ProtectionStopped", None)
    assert item.purge_at is not None
    assert abs(item.purge_at - here.clock.now() - timedelta(days=14)) < timedelta(seconds=1)
    refused("UserErrorItemSoftDeleted", here.restored)
    refused("UserErrorItemSoftDeleted", here.back_up)
    refused("UserErrorItemSoftDeleted", here.protect)
    refused("UserErrorItemSoftDeleted", lambda: here.put(protectionState="ProtectionStopped"))
    set_soft_delete(here, softDeleteRetentionPeriodInDays=15)
    here.delete()
    again = here.item()
    assert again is not None and again.purge_at == item.purge_at, "its period is that of its day"
    here.pass_days(13.9, step=7)
    assert here.stored() == held
    assert collect(here) == 0
    back = here.undelete()
    assert here.job(back.job_id).operation == "Undelete"
    assert (back.row.protection_state, back.row.purge_at) == ("ProtectionStopped", None)
    refused("UserErrorItemNotSoftDeleted", here.undelete)
    refused("UserErrorProtectionStopped", here.back_up)
    oldest, newest = sorted(held)
    assert here.restored(oldest) == before
    assert here.restored(newest) == here.agent.files
    here.pass_days(30, step=15)
    assert here.stored() == held, "stopped protection keeps all for ever"
    assert here.protect().row.protection_state == "Protected"
    assert here.back_up().status == "Completed"
    here.delete()
    here.pass_days(16)
    assert here.item() is None
    assert here.stored() == set()
    assert collect(here) == 0, "the maintenance collected it"
    with here.platform.catalog.read() as connection:
        asked = Wanted(vault_ids=[here.vault.id], condition="Fired")
        told = [row.rule for row in alerts.page_alerts(connection, asked).rows]
    assert "PurgeComplete" in told
    opened = here.platform.vaults.open(here.vault.id)
    assert opened.statistics().stored_bytes == 0


def test_a_job_that_raced_a_deletion_fails(here: Premises) -> None:
    point = here.back_up().result["recoveryPointId"]
    held = here.stored()
    here.delete()
    item = here.item()
    assert item is not None
    kinds: tuple[JobKind, ...] = ("backup", "restore")
    for kind in kinds:
        asked = JobSpec(
            kind,
            item.vault_id,
            item.friendly_name,
            item.id,
            item.container_id,
            {"recoveryPointId": point},
        )
        job = here.ended(here.platform.jobs.submit(asked))
        assert (job.status, job.error_code) == ("Failed", "UserErrorItemSoftDeleted")
    after = here.item()
    assert after is not None and after.protection_state == "ProtectionStopped"
    assert here.stored() == held


@BOTH
def test_without_soft_delete_data_goes_at_once(here: Premises) -> None:
    here.back_up()
    set_soft_delete(here, softDeleteState="Disabled")
    job = here.delete()
    assert (job.operation, job.status) == ("DeleteBackupData", "Completed")
    assert here.item() is None
    assert here.stored() == set()
    assert collect(here) > 0


def test_what_was_deleted_before_soft_delete_went_off_is_kept(here: Premises) -> None:
    here.back_up()
    here.delete()
    set_soft_delete(here, softDeleteState="Disabled")
    here.pass_days(2)
    unregister(here)
    refused(
        "ServiceResourceNotEmptyWithBackendMessage",
        lambda: vault_life.delete_vault(here.platform, GROUP, VAULT),
    )
    here.undelete()
    assert here.agent.files == content_of(here)
    here.delete()
    assert here.item() is None, "deleted again, it went at once"


def content_of(here: Premises) -> dict[bytes, bytes]:
    """What a restore brings to a machine that enrolled anew."""
    here.agent.stop()
    here.agent, old = here.enrol(replace=True), here.agent
    here.agent.files = old.files
    here.agent.start()
    return here.restored()


def unregister(here: Premises) -> None:
    machines.unregister_container(here.platform, here.vault, HOST)


def test_suspended_backups_expire_and_the_latest_stays(here: Premises) -> None:
    here.pass_days(3)
    assert len(here.points()) == 3
    latest, content = here.points()[0].rp_id, dict(here.agent.files)
    saved = here.put(protectionState="BackupsSuspended")
    assert here.job(saved.job_id).operation == "DisableBackup"
    assert saved.row.policy_id
    here.pass_days(29, step=9.7)
    assert here.stored() == {point.rp_id for point in here.points()}
    assert 0 < len(here.points()) < 3, "the policy goes on expiring"
    here.pass_days(60, step=20)
    assert here.stored() == {latest}
    assert here.restored() == content
    stopped = here.put(protectionState="ProtectionStopped")
    assert stopped.row.policy_id is None


def test_stopped_for_ever_nothing_goes_and_resuming_lets_the_policy_count(here: Premises) -> None:
    here.pass_days(3)
    held = here.stored()
    here.put(protectionState="ProtectionStopped", policyId="")
    here.pass_days(60, step=20)
    assert here.stored() == held and len(held) == 3
    resumed = here.protect()
    assert resumed.operation == "ConfigureBackup"
    assert resumed.changes is not None and resumed.changes.expires == 2
    result = here.job(resumed.job_id).result["retentionChange"]
    assert (result["recoveryPoints"], result["expire"]) == (3, 2)
    here.pass_days(2)
    assert held.isdisjoint(here.stored())
    assert here.restored() == here.agent.files


def test_what_a_shorter_retention_drops_is_kept_for_the_period(here: Premises) -> None:
    """Listed and restorable meanwhile; back with a longer retention; gone after its period. What
    ends as it was promised goes at once."""
    here.pass_days(12)
    held, oldest = here.stored(), here.points()[-1].rp_id
    keep(here, 7)
    here.pass_days(1)
    softly = {row.rp_id for row in here.points() if row.purge_at is not None}
    assert len(softly) == 6 and softly < held <= here.stored()
    assert here.restored(oldest)
    keep(here, 30)
    here.pass_days(1)
    assert not [row for row in here.points() if row.purge_at is not None], "it is revived"
    cut = here.clock.now()
    keep(here, 7)
    here.pass_days(13)
    assert held <= here.stored()
    purge_at = here.points()[-1].purge_at
    assert purge_at is not None
    here.pass_days(3)
    assert oldest not in here.stored()
    since = [row.time for row in here.points() if row.time > cut]
    assert min(since) > here.clock.now() - timedelta(days=7), "what was made since goes at once"


def test_without_soft_delete_a_shorter_retention_drops_at_once(here: Premises) -> None:
    here.pass_days(12)
    set_soft_delete(here, softDeleteState="Disabled")
    keep(here, 7)
    here.pass_days(1)
    since = here.clock.now() - timedelta(days=7)
    assert all(row.time > since for row in here.points())
    assert here.stored() == {row.rp_id for row in here.points()}


def keep(here: Premises, days: int) -> None:
    """Give DefaultPolicy another duration."""
    body = default_policy()
    body["retentionPolicy"]["dailySchedule"]["retentionDuration"]["count"] = days
    put_policy(here.platform, here.vault, "DefaultPolicy", body, None, ANN)


def test_a_policy_that_changes_configures_its_items_anew(here: Premises) -> None:
    """Stopped items have no policy, so nothing is told of them; the same again is no change."""
    here.pass_days(3)

    def configured() -> list[JobRow]:
        with here.platform.catalog.read() as connection:
            page = jobs.page_jobs(connection, here.vault.id, operation="ConfigureBackup")
        return page.rows

    before = len(configured())
    here.clock.pass_time(timedelta(days=8))
    keep(here, 7)
    newest = configured()[0]
    assert len(configured()) == before + 1
    assert (newest.entity_name, newest.status, newest.created_by) == (ITEM, "Completed", ANN)
    change = newest.result["retentionChange"]
    assert (change["recoveryPoints"], change["expire"]) == (3, 2)
    keep(here, 7)
    here.put(protectionState="ProtectionStopped")
    keep(here, 30)
    assert len(configured()) == before + 1


def test_a_removal_that_waits_forbids_the_undeletion(here: Premises) -> None:
    """So that nothing is brought back that is half gone."""
    here.back_up()
    here.delete()
    item = here.item()
    assert item is not None
    here.agent.stop()
    here.pass_days(13)
    here.parts.engine.stop()
    here.clock.pass_time(timedelta(days=2))
    Ticker(here.parts.engine.context).tick()
    with here.platform.catalog.read() as connection:
        (purge,) = jobs.active_jobs_of(connection, here.vault.id, item_id=item.id)
    assert (purge.operation, purge.scheduled) == ("Purge", True)
    refused("UserErrorOperationInProgress", here.undelete)


def test_a_removal_leaves_an_item_that_came_back(here: Premises) -> None:
    here.back_up()
    here.delete()
    here.undelete()
    item = here.item()
    assert item is not None
    spec = JobSpec("purge", item.vault_id, item.friendly_name, item.id)
    job = here.ended(here.platform.jobs.submit(spec))
    assert (job.status, job.result) == ("Completed", {"droppedPoints": 0, "kept": True})
    assert here.restored() == here.agent.files


def test_a_clock_that_leaps_removes_nothing(here: Premises) -> None:
    here.back_up()
    here.delete()
    here.agent.stop()
    held = here.stored()
    for days in (400, -400, 3650):
        here.clock.jump(timedelta(days=days))
        here.parts.engine.wake()
        eventually(lambda: maintained(here), "the maintenance was there", every=0.02)
    assert here.stored() == held
    assert not purges(here)
    here.undelete()
    here.agent.start()
    assert here.restored() == here.agent.files


def maintained(here: Premises) -> bool:
    due = here.vault.next_maintenance_at
    return due is not None and here.clock.now() < due


def purges(here: Premises) -> list[str]:
    with here.platform.catalog.read() as connection:
        return [row.id for row in jobs.page_jobs(connection, here.vault.id, operation="Purge").rows]


def test_a_clock_that_leaps_erases_no_vault(here: Premises) -> None:
    vault_id = deleted_vault(here)
    here.clock.jump(timedelta(days=400))
    here.pass_days(3)
    assert contents(here.vault_folder(vault_id))
    assert back(here, vault_id).id == vault_id
    here.undelete()
    assert content_of(here) == here.agent.files


def deleted_vault(here: Premises) -> str:
    here.back_up()
    here.delete()
    here.agent.stop()
    unregister(here)
    found = here.vault.id
    vault_life.delete_vault(here.platform, GROUP, VAULT)
    return found


def test_a_machine_whose_items_are_deleted_may_go_and_comes_back(here: Premises) -> None:
    here.back_up()
    refused("BMSUserErrorContainerHasDatasources", lambda: unregister(here))
    here.put(protectionState="ProtectionStopped")
    refused("BMSUserErrorContainerHasDatasources", lambda: unregister(here))
    here.delete()
    unregister(here)
    assert registration(here) == "SoftDeleted"
    here.undelete()
    assert registration(here) == "Registered"
    assert content_of(here) == here.agent.files
    here.delete()
    unregister(here)
    here.pass_days(15)
    with here.platform.catalog.read() as connection:
        assert not containers.page_containers(connection, here.vault.id).rows
    vault_life.delete_vault(here.platform, GROUP, VAULT)
    refused("ResourceNotFound", lambda: here.vault)


def registration(here: Premises) -> str:
    with here.platform.catalog.read() as connection:
        (row,) = containers.page_containers(connection, here.vault.id).rows
    return row.registration_status


@BOTH
def test_a_deleted_vault_comes_back_bit_for_bit(here: Premises) -> None:
    here.back_up()
    refused(
        "ServiceResourceNotEmptyWithBackendMessage",
        lambda: vault_life.delete_vault(here.platform, GROUP, VAULT),
    )
    here.delete()
    refused(
        "ServiceResourceNotEmptyWithBackendMessage",
        lambda: vault_life.delete_vault(here.platform, GROUP, VAULT),
    )
    here.agent.stop()
    unregister(here)
    vault = here.vault
    folder = here.vault_folder(vault.id)
    here.pass_days(10, step=5)
    assert vault_life.delete_vault(here.platform, GROUP, VAULT)
    assert not vault_life.delete_vault(here.platform, GROUP, VAULT)
    create_vault(here.platform, GROUP, VAULT, {"location": "local"})
    (deleted,) = vault_life.list_deleted(here.platform, "LOCAL")
    assert deleted.id == vault.id
    kept = contents(folder)
    here.pass_days(13, step=6)
    assert contents(folder) == kept, "nothing touches it"
    refused("VaultExists", lambda: back(here, vault.id))
    vault_life.delete_vault(here.platform, GROUP, VAULT)
    assert len(vault_life.list_deleted(here.platform, "local")) == 2, "two of one name"
    assert back(here, vault.id).id == get_vault(here.platform, GROUP, VAULT).id == vault.id
    refused("DeletedVaultNotFound", lambda: back(here, vault.id))
    here.undelete()
    assert content_of(here) == here.agent.files


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def back(here: Premises, vault_id: str) -> vaults.VaultRow:
    return vault_life.undelete_vault(here.platform, "local", vault_id, GROUP)


@BOTH
def test_a_deleted_vault_goes_for_good_after_its_time(here: Premises) -> None:
    vault_id = deleted_vault(here)
    folder = here.vault_folder(vault_id)
    here.pass_days(13)
    assert contents(folder)
    here.pass_days(3)
    assert not contents(folder)
    with here.platform.catalog.read() as connection:
        assert vaults.get_vault(connection, vault_id) is None
        assert not jobs.page_jobs(connection, vault_id).rows
    with pytest.raises(NotFoundError):
        back(here, vault_id)
    create_vault(here.platform, GROUP, VAULT, {"location": "local"})
    here.agent = here.enrol()
    here.agent.start()
    here.protect()
    assert here.back_up().status == "Completed"
    assert here.restored() == here.agent.files


def test_a_deleted_vault_that_goes_soon_is_told_once_for_all_that_is_in_it(here: Premises) -> None:
    here.parts.notifier.stop()  # so that messages stay to be seen
    vault_id = deleted_vault(here)
    here.pass_days(11)
    assert "UpcomingPurge" not in told(here, vault_id)
    here.pass_days(2)
    (alert,) = told(here, vault_id)["UpcomingPurge"]
    assert (alert.subject, alert.about) == (VAULT, vault_id)
    assert "2026-03-16 12:00" in alert.message
    back(here, vault_id)
    (alert,) = told(here, vault_id)["UpcomingPurge"]
    assert alert.subject == ITEM, "the time of its item goes on"
    vault_life.delete_vault(here.platform, GROUP, VAULT)
    here.pass_days(16)
    with here.platform.catalog.read() as connection:
        messages = [row.message for row in outbox.unrouted(connection)]
    last = [one for one in messages if one["vault"] == VAULT][-1]
    assert (last["rule"], last["subject"], last["event"]) == ("PurgeComplete", VAULT, "fired")


def told(here: Premises, vault_id: str) -> dict[str, list[alerts.AlertRow]]:
    """Alerts that stand now, by rule."""
    look(here.platform, here.clock.now())
    found: dict[str, list[alerts.AlertRow]] = {}
    with here.platform.catalog.read() as connection:
        asked = Wanted(vault_ids=[vault_id], condition="Fired")
        for row in alerts.page_alerts(connection, asked).rows:
            found.setdefault(row.rule, []).append(row)
    return found


def test_a_vault_that_is_going_stays_gone(here: Premises) -> None:
    vault_id = deleted_vault(here)
    with here.platform.catalog.write() as connection:
        vaults.change_vault(connection, vault_id, state="Purging")
    with pytest.raises(ConflictError) as caught:
        back(here, vault_id)
    assert caught.value.code == "UserErrorOperationInProgress"


def test_an_erasing_that_was_cut_off_is_finished_by_the_next_start(here: Premises) -> None:
    vault_id = deleted_vault(here)
    folder = here.vault_folder(vault_id)
    here.pass_days(13)
    here.parts.engine.stop()
    here.clock.pass_time(timedelta(days=2))
    Ticker(here.parts.engine.context).tick()
    job = erase_job(here, vault_id)
    plan, _ = EraseProcedure(here.parts.engine.context).steps
    assert plan[1](job, {})["do"] == "go"
    assert "planned" in [event.event for event in history(here, job.id)]
    for path in sorted(contents(folder))[::2]:
        Path(path).unlink()
    refused("UserErrorOperationInProgress", lambda: back(here, vault_id))
    here.close()
    here.start()
    eventually(lambda: not contents(folder), "the rest is erased", every=0.02)
    eventually(lambda: forgotten(here, vault_id), "and forgotten", every=0.02)


def erase_job(here: Premises, vault_id: str) -> jobs.JobRow:
    with here.platform.catalog.read() as connection:
        (job,) = jobs.active_jobs_of(connection, vault_id)
    return job


def history(here: Premises, job_id: str) -> list[jobs.JobEvent]:
    with here.platform.catalog.read() as connection:
        return jobs.history_of(connection, job_id)


def forgotten(here: Premises, vault_id: str) -> bool:
    with here.platform.catalog.read() as connection:
        return vaults.get_vault(connection, vault_id) is None


@BOTH
def test_a_deletion_outlives_the_server(here: Premises) -> None:
    """Dead between the deletion and its end: nothing is lost before its time, all goes after it."""
    here.back_up()
    item_life.delete_item(here.platform, here.vault, HOST, ITEM, ANN)
    here.close()
    here.clock.pass_time(timedelta(days=1))
    here.start()
    item = here.item()
    assert item is not None and item.deleted_at is not None
    assert here.undelete().row.protection_state == "ProtectionStopped"
    assert content_of(here) == here.agent.files
    here.delete()
    here.pass_days(13)
    here.agent.stop()
    here.parts.engine.stop()
    here.clock.pass_time(timedelta(days=2))
    Ticker(here.parts.engine.context).tick()
    here.close()
    here.start()
    eventually(lambda: here.item() is None, "the removal that waited is done", every=0.02)
    assert here.stored() == set()
