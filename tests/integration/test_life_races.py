"""Two changes of one vault at once, on PostgreSQL where both really run: the second waits for the
first and decides anew on what that left; and changes that meet a job half way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, text

from holdfast.catalog import items, jobs, vaults
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.domain.soft_delete import purge_time
from holdfast.errors import HoldfastError
from holdfast.jobs.backup import BackupProcedure
from holdfast.jobs.erase import EraseProcedure
from holdfast.jobs.expire import ExpireProcedure
from holdfast.jobs.outcome import done
from holdfast.jobs.ticker import Ticker
from holdfast.ports.jobs import JobSpec
from holdfast.services import containers as machines
from holdfast.services import item_life, vault_life
from holdfast.services.items import back_up_now
from holdfast.services.vault_bodies import soft_delete_of
from holdfast.services.vaults import change_vault
from holdfast.testing.premises import ANN, GROUP, HOST, ITEM, QUICK, VAULT, Premises
from holdfast.testing.servers import Postgres
from holdfast.testing.wait import eventually


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Premises]:
    made = Premises(tmp_path / "server")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def still(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: Postgres, postgres_template: str
) -> Iterator[Premises]:
    """Over PostgreSQL, with a recovery point; nothing runs any more. Tests share it and leave the
    vault with its item protected."""
    url = postgres_server.database(template=postgres_template)
    settings = msgspec.structs.replace(QUICK, catalog_url=url)
    made = Premises(tmp_path_factory.mktemp("still") / "server", settings)
    try:
        made.back_up()
        made.agent.stop()
        made.parts.notifier.stop()
        made.parts.engine.stop()
        yield made
    finally:
        made.close()


class Second(threading.Thread):
    """A call that waits for a transaction that is still open."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.answer: Any = None

    def run(self) -> None:
        try:
            self.answer = self._call()
        except HoldfastError as error:
            self.answer = error.code


@contextmanager
def meanwhile(here: Premises, call: Callable[[], object]) -> Iterator[tuple[Connection, Second]]:
    """A transaction that holds the vault and the item; ``call`` waits for it and ends after it."""
    second = Second(call)
    item = found(here)
    with here.platform.catalog.write() as connection:
        vaults.lock_vault(connection, item.vault_id)
        items.lock_item(connection, item.id)
        second.start()
        eventually(lambda: waits(here), "the second waits", every=0.02)
        yield connection, second
    second.join(timeout=60)
    assert not second.is_alive()


def waits(here: Premises) -> bool:
    with here.platform.catalog.read() as connection:
        return bool(
            connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one()
        )


def found(here: Premises) -> ItemRow:
    item = here.item()
    assert item is not None
    return item


def test_a_backup_asked_for_while_the_item_is_deleted_is_refused(still: Premises) -> None:
    def back_up() -> str:
        return back_up_now(still.platform, still.vault, HOST, ITEM, None, ANN)

    now, item = still.clock.now(), found(still)
    with meanwhile(still, back_up) as (connection, second):
        values: dict[str, Any] = {"protection_state": "ProtectionStopped", "next_run_at": None}
        values |= {"deleted_at": now, "purge_at": purge_time(now, 14)}
        items.change_item(connection, item.id, **values)
    assert second.answer == "UserErrorItemSoftDeleted"
    still.undelete()
    still.protect()


def test_a_backup_that_ends_while_protection_is_stopped_leaves_it_stopped(still: Premises) -> None:
    """The first one of an item makes it Protected, unless somebody stopped it meanwhile."""
    platform, item = still.platform, found(still)
    with platform.catalog.write() as connection:
        items.change_item(connection, item.id, protection_state="IRPending")
        (job,) = jobs.page_jobs(connection, item.vault_id, operation="Backup").rows
    procedure = BackupProcedure(still.parts.engine.context)

    def end() -> None:
        with platform.catalog.write() as connection:
            procedure.ended(connection, job, "Completed", done())

    with meanwhile(still, end) as (connection, second):
        items.change_item(connection, item.id, protection_state="ProtectionStopped", policy_id=None)
    assert second.answer is None
    assert found(still).protection_state == "ProtectionStopped"
    still.protect()


def test_a_vault_is_not_deleted_while_an_item_comes_back(still: Premises) -> None:
    item_life.delete_item(still.platform, still.vault, HOST, ITEM, ANN)
    machines.unregister_container(still.platform, still.vault, HOST)
    item = found(still)

    def delete() -> bool:
        return vault_life.delete_vault(still.platform, GROUP, VAULT)

    with meanwhile(still, delete) as (connection, second):
        items.change_item(connection, item.id, deleted_at=None, purge_at=None)
    assert second.answer == "ServiceResourceNotEmptyWithBackendMessage"
    still.protect()


def test_nothing_is_protected_in_a_vault_that_is_being_deleted(still: Premises) -> None:
    vault = still.vault
    with meanwhile(still, still.protect) as (connection, second):
        values = {"name_key": vaults.deleted_key(vault.id), "deleted_at": still.clock.now()}
        vaults.change_vault(connection, vault.id, **values)
    assert second.answer == "ResourceNotFound"
    with still.platform.catalog.write() as connection:
        vaults.change_vault(connection, vault.id, name_key=VAULT, deleted_at=None)


def test_soft_delete_that_is_set_to_always_stays_so(still: Premises) -> None:
    """Another change of the vault that began before must not bring the old setting back."""
    vault = still.vault

    def name() -> object:
        return change_vault(still.platform, GROUP, VAULT, {"tags": {"owner": "ann"}})

    with meanwhile(still, name) as (connection, second):
        settings = {"softDeleteState": "AlwaysON", "softDeleteRetentionPeriodInDays": 30}
        properties = {"properties": {"securitySettings": {"softDeleteSettings": settings}}}
        vaults.change_vault(connection, vault.id, properties=properties)
    assert second.answer.tags == {"owner": "ann"}
    assert soft_delete_of(still.vault).state == "AlwaysON"


def test_two_servers_count_a_day_of_a_deletion_once(still: Premises) -> None:
    item_life.delete_item(still.platform, still.vault, HOST, ITEM, ANN)
    item, now = found(still), still.clock.now() + timedelta(days=1)
    still.clock.pass_time(timedelta(days=1))
    ticker = Ticker(still.parts.engine.context)
    with meanwhile(still, ticker.tick) as (connection, _):
        assert vaults.take_maintenance(connection, item.vault_id, now, now + timedelta(days=1))
        items.count_deleted_day(connection, item.vault_id)
    assert found(still).days_deleted == 1
    still.undelete()
    still.protect()


# half way


def test_an_item_whose_data_is_being_removed_is_not_protected_again(here: Premises) -> None:
    here.back_up()
    body = {"properties": {"securitySettings": {"softDeleteSettings": {}}}}
    body["properties"]["securitySettings"]["softDeleteSettings"]["softDeleteState"] = "Disabled"
    change_vault(here.platform, GROUP, VAULT, body)
    here.parts.engine.stop()
    item_life.delete_item(here.platform, here.vault, HOST, ITEM, ANN)
    for call in (here.protect, here.back_up):
        with pytest.raises(HoldfastError) as caught:
            call()
        assert caught.value.code == "UserErrorOperationInProgress"
    here.close()
    here.start()
    eventually(lambda: here.item() is None, "the removal is done", every=0.02)
    assert here.protect().row.protection_state == "IRPending"


def test_what_was_stopped_since_the_plan_is_not_expired(here: Premises) -> None:
    here.pass_days(3)
    here.agent.stop()
    here.parts.engine.stop()
    held = here.stored()
    here.clock.pass_time(timedelta(days=40))
    with here.platform.catalog.write() as connection:
        spec = JobSpec("expire", here.vault.id, VAULT)
        job = here.parts.engine.ledger.create(connection, spec)
    going_on = replace(here.parts.engine.context, stopping=lambda: False)
    plan, apply, _ = ExpireProcedure(going_on).steps
    memory = plan[1](job, {})["keep"]
    assert len(memory["drops"]) == 2
    here.put(protectionState="ProtectionStopped")
    assert apply[1](job, memory)["keep"]["dropped"] == 0
    assert here.stored() == held


def deleted_vault(here: Premises) -> JobRow:
    """Its erasing, planned and not begun."""
    here.back_up()
    here.delete()
    here.agent.stop()
    vault_id = here.vault.id
    machines.unregister_container(here.platform, here.vault, HOST)
    vault_life.delete_vault(here.platform, GROUP, VAULT)
    here.pass_days(13)
    here.parts.engine.stop()
    here.clock.pass_time(timedelta(days=2))
    Ticker(here.parts.engine.context).tick()
    with here.platform.catalog.read() as connection:
        (job,) = jobs.active_jobs_of(connection, vault_id)
    plan, _ = EraseProcedure(here.parts.engine.context).steps
    assert plan[1](job, {})["do"] == "go"
    return job


def test_an_erasing_that_began_ends_though_the_clock_is_set_back(here: Premises) -> None:
    """A vault that is half gone is not forgotten before its last object is."""
    job = deleted_vault(here)
    here.clock.jump(timedelta(days=-10))
    plan, erase = EraseProcedure(here.parts.engine.context).steps
    again = plan[1](job, {})
    assert again["do"] == "go"
    assert erase[1](job, again["keep"])["do"] == "done"
    assert not list(here.vault_folder(job.vault_id).rglob("descriptor"))


def test_leaps_that_each_bring_a_maintenance_count_one_day(here: Premises) -> None:
    here.back_up()
    here.delete()
    here.agent.stop()
    held = here.stored()
    for _ in range(20):
        here.clock.jump(timedelta(days=1, minutes=1))
        here.parts.engine.wake()
        eventually(lambda: here.vault.next_maintenance_at > here.clock.now(), "it was there")
    assert found(here).days_deleted == 1
    assert here.stored() == held
