"""A server is lost with its catalog: what people decided about items comes back with the vault, and
nothing goes sooner than it would have."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.catalog import items, jobs, policies, vaults
from holdfast.catalog.items import ItemRow
from holdfast.domain.default_policies import default_policy
from holdfast.errors import HoldfastError
from holdfast.jobs.life_writing import life_of
from holdfast.services import item_life
from holdfast.services.items import back_up_now
from holdfast.services.policies import put_policy
from holdfast.services.vault_bodies import soft_delete_of
from holdfast.services.vaults import change_vault
from holdfast.testing.premises import ANN, GROUP, HOST, VAULT, Premises
from holdfast.testing.wait import eventually


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Premises]:
    made = Premises(tmp_path / "server")
    try:
        yield made
    finally:
        made.close()


def told(here: Premises) -> bool:
    """Whether the vault knows how its items stand."""
    row = here.vault
    return row.life_version == row.life_written


def lose_server(here: Premises, folder: Path) -> jobs.JobRow:
    eventually(lambda: told(here), "the vault is told", every=0.02)
    return here.lose_server(folder)


def enrol_anew(here: Premises) -> None:
    files = here.agent.files
    here.agent = here.enrol(replace=True)
    here.agent.files = files
    here.agent.start()


def test_deleted_data_comes_back_deleted_and_never_goes_sooner(
    here: Premises, tmp_path: Path
) -> None:
    here.back_up()
    here.delete()
    held, before = here.stored(), here.item()
    assert before is not None and before.purge_at is not None
    here.agent.stop()
    here.pass_days(10, step=5)
    job = lose_server(here, tmp_path / "other")
    assert job.status == "Completed"
    assert job.result["deletedItems"] == 1
    item = here.item()
    assert item is not None
    assert (item.life_state, item.policy_id, item.soft_delete_days) == ("SoftDeleted", None, 14)
    assert item.deleted_at == before.deleted_at
    assert item.purge_at == here.clock.now() + timedelta(days=14) > before.purge_at
    enrol_anew(here)
    with pytest.raises(HoldfastError) as caught:
        here.restored()
    assert caught.value.code == "UserErrorItemSoftDeleted"
    here.pass_days(13.9, step=1)
    assert here.stored() == held
    assert here.undelete().row.protection_state == "ProtectionStopped"
    assert here.restored() == here.agent.files
    here.delete()
    here.pass_days(16)
    assert here.item() is None
    assert here.stored() == set()


def protect(here: Premises, name: str) -> None:
    body = {"policyId": "DefaultPolicy", "holdfast": {"includePaths": ["/srv"]}}
    item_life.put_item(here.platform, here.vault, HOST, name, body, ANN)
    here.ended(back_up_now(here.platform, here.vault, HOST, name, None, ANN))


def put(here: Premises, name: str, **properties: object) -> None:
    item_life.put_item(here.platform, here.vault, HOST, name, dict(properties), ANN)


def found(here: Premises) -> dict[str, ItemRow]:
    with here.platform.catalog.read() as connection:
        return {row.friendly_name: row for row in items.items_of_vault(connection, here.vault.id)}


def policy_days(here: Premises, policy_id: str | None) -> int:
    with here.platform.catalog.read() as connection:
        row = policies.get_policy(connection, policy_id or "")
    assert row is not None
    days: int = row.properties["retentionPolicy"]["dailySchedule"]["retentionDuration"]["count"]
    return days


def test_stopped_and_suspended_items_come_back_as_that(here: Premises, tmp_path: Path) -> None:
    here.back_up()
    for name in ("forever", "suspended"):
        protect(here, name)
    put(here, "forever", protectionState="ProtectionStopped")
    put(here, "suspended", protectionState="BackupsSuspended")
    longer = default_policy()
    longer["retentionPolicy"]["dailySchedule"]["retentionDuration"]["count"] = 400
    put_policy(here.platform, here.vault, "DefaultPolicy", longer)
    settings = {"softDeleteState": "AlwaysON", "softDeleteRetentionPeriodInDays": 60}
    body = {"properties": {"securitySettings": {"softDeleteSettings": settings}}}
    change_vault(here.platform, GROUP, VAULT, body)
    assert lose_server(here, tmp_path / "other").result["deletedItems"] == 0
    rows = found(here)
    assert rows["forever"].protection_state == "ProtectionStopped"
    assert rows["forever"].policy_id is None
    assert rows["suspended"].protection_state == "BackupsSuspended"
    assert policy_days(here, rows["suspended"].policy_id) == 400, "not that of its last backup"
    assert rows["docs"].protection_state == "ProtectionStopped", "it waits for its agent"
    assert rows["docs"].policy_id is not None
    assert (soft_delete_of(here.vault).state, soft_delete_of(here.vault).days) == ("AlwaysON", 60)
    assert lose_server(here, tmp_path / "third").status == "Completed"
    again = found(here)
    assert [again[name].protection_state for name in ("docs", "forever", "suspended")] == [
        "ProtectionStopped",
        "ProtectionStopped",
        "BackupsSuspended",
    ]
    assert again["docs"].policy_id is not None


def test_what_the_vault_was_not_told_before_the_end_is_told_by_the_next_start(
    here: Premises,
) -> None:
    here.back_up()
    eventually(lambda: told(here), "nothing is left", every=0.02)
    here.parts.engine.stop()
    item_life.delete_item(here.platform, here.vault, HOST, "docs", ANN)
    assert not told(here)
    here.close()
    here.start()
    eventually(lambda: told(here), "the vault is told", every=0.02)
    life = here.platform.vaults.open(here.vault.id).read_life()
    assert life is not None
    (one,) = life.items.values()
    assert one.deleted_at_ns is not None


def test_a_server_that_was_slow_does_not_write_an_older_state(here: Premises) -> None:
    here.back_up()
    put(here, "docs", protectionState="BackupsSuspended")
    eventually(lambda: told(here), "the vault is told", every=0.02)
    with here.platform.catalog.read() as connection:
        slow = life_of(connection, here.vault)
    here.delete()
    eventually(lambda: told(here), "the vault is told", every=0.02)
    opened = here.platform.vaults.open(here.vault.id)
    assert opened.write_life(slow) > slow.version
    life = opened.read_life()
    assert life is not None
    assert [one.deleted_at_ns is not None for one in life.items.values()] == [True]
    assert len(list((here.vault_folder(here.vault.id) / "life").iterdir())) == 2


def test_a_catalog_that_is_an_older_copy_still_tells(here: Premises) -> None:
    here.back_up()
    put(here, "docs", protectionState="BackupsSuspended")
    here.delete()
    eventually(lambda: told(here), "the vault is told", every=0.02)
    here.parts.engine.stop()
    with here.platform.catalog.write() as connection:
        vaults.change_vault(connection, here.vault.id, life_version=0, life_written=0)
    here.undelete()
    here.close()
    here.start()
    eventually(lambda: told(here) and here.vault.life_version > 2, "it is told", every=0.02)
    life = here.platform.vaults.open(here.vault.id).read_life()
    assert life is not None
    assert [one.deleted_at_ns for one in life.items.values()] == [None]


def test_when_it_cannot_be_read_everything_is_kept(here: Premises, tmp_path: Path) -> None:
    here.back_up()
    put(here, "docs", protectionState="BackupsSuspended")
    here.delete()
    eventually(lambda: told(here), "the vault is told", every=0.02)
    newest = sorted((here.vault_folder(here.vault.id) / "life").iterdir())[-1]
    newest.chmod(0o600)
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    job = here.lose_server(tmp_path / "other")
    assert (job.status, job.result["deletedItems"]) == ("Completed", 0)
    with here.platform.catalog.read() as connection:
        messages = [event.message for event in jobs.history_of(connection, job.id)]
    assert any("cannot be read" in message for message in messages)
    item = here.item()
    assert item is not None
    assert (item.life_state, item.purge_at) == ("ProtectionStopped", None)
    held = here.stored()
    enrol_anew(here)
    here.pass_days(36, step=6)
    assert here.stored() == held


def test_a_vault_of_before_is_imported_as_ever(here: Premises, tmp_path: Path) -> None:
    here.back_up()
    here.delete()
    eventually(lambda: told(here), "the vault is told", every=0.02)
    for path in (here.vault_folder(here.vault.id) / "life").iterdir():
        path.unlink()
    here.lose_server(tmp_path / "other")
    item = here.item()
    assert item is not None and item.life_state == "ProtectionStopped"
