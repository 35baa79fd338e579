"""An immutable vault, through the real services and jobs: what would lose a recovery point before
its time is refused and loses nothing, what does not goes on, and no way round sheds a lock."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.catalog import vaults
from holdfast.domain.default_policies import default_policy
from holdfast.errors import ConflictError, ObjectLockedError
from holdfast.services import containers as machines
from holdfast.services import policy_plans, vault_life
from holdfast.services.policies import delete_policy, put_policy
from holdfast.services.vaults import change_vault, create_vault
from holdfast.testing.premises import ANN, GROUP, HOST, ITEM, VAULT, Premises
from holdfast.testing.wait import eventually
from holdfast.vaultstore.life import VaultLife

BLOCKED = "UserErrorVaultImmutable"
STATE_CHANGE = "UserErrorUnsupportedVaultImmutabilityStateChange"
POLICY = "kept"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Premises]:
    """Its item is kept for 30 days, has two scheduled points, and the vault is immutable."""
    made = Premises(tmp_path / "server")
    try:
        keep(made, 30)
        made.protect(POLICY)
        for text in (b"one", b"two"):
            made.agent.files = {b"a": text}
            made.pass_days(1)
        secure(made, immutabilitySettings={"state": "Unlocked"})
        yield made
    finally:
        made.close()


def secure(here: Premises, **settings: Any) -> None:
    change_vault(here.platform, GROUP, VAULT, {"properties": {"securitySettings": settings}})


def lock(here: Premises) -> None:
    secure(here, immutabilitySettings={"state": "Locked"})


def kept(days: int, at: str = "19:30") -> dict[str, Any]:
    """A daily policy."""
    policy = copy.deepcopy(default_policy())
    policy["retentionPolicy"]["dailySchedule"]["retentionDuration"]["count"] = days
    time = f"2026-01-01T{at}:00Z"
    policy["retentionPolicy"]["dailySchedule"]["retentionTimes"] = [time]
    policy["schedulePolicy"]["scheduleRunTimes"] = [time]
    return policy


def keep(here: Premises, days: int, at: str = "19:30", name: str = POLICY) -> None:
    put_policy(here.platform, here.vault, name, kept(days, at), by=ANN)


def told(here: Premises) -> None:
    """Wait until the vault knows what the catalog does."""
    eventually(
        lambda: here.vault.life_version == here.vault.life_written, "the vault is told", every=0.02
    )


def refused(call: object, code: str = BLOCKED) -> ConflictError:
    assert callable(call)
    with pytest.raises(ConflictError) as caught:
        call()
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


def test_what_loses_points_is_refused_and_loses_none(here: Premises) -> None:
    lock(here)
    keep(here, 7, name="short")
    before = here.stored()
    refused(here.delete)
    refused(lambda: keep(here, 29))
    refused(lambda: here.protect("short"))
    off = {"softDeleteSettings": {"softDeleteState": "Disabled"}}
    refused(lambda: secure(here, **off))
    refused(
        lambda: vault_life.delete_vault(here.platform, GROUP, VAULT),
        "ServiceResourceNotEmptyWithBackendMessage",
    )
    here.put(protectionState="ProtectionStopped", policyId="")
    refused(here.delete)
    refused(lambda: here.protect("short"))
    refused(
        lambda: machines.unregister_container(here.platform, here.vault, HOST),
        "BMSUserErrorContainerHasDatasources",
    )
    here.pass_days(40, step=10)
    assert here.stored() == before, "stopped protection keeps all of them"
    assert here.restored(max(before)) == {b"a": b"two"}
    assert here.restored(min(before)) == {b"a": b"one"}


def test_what_loses_nothing_goes_on(here: Premises) -> None:
    lock(here)
    here.back_up()
    keep(here, 30, at="22:00")
    keep(here, 31)
    keep(here, 60, name="long")
    here.protect("long")
    here.put(protectionState="BackupsSuspended", policyId="")
    here.put(protectionState="ProtectionStopped", policyId="")
    here.protect("long")
    assert len(here.stored()) == 3


def test_the_policy_goes_on_expiring_points_and_then_all_may_be_deleted(here: Premises) -> None:
    lock(here)
    here.put(protectionState="BackupsSuspended", policyId="")
    refused(here.delete)
    refused(lambda: keep(here, 31))
    here.pass_days(32, step=8)
    assert len(here.stored()) == 1, "the latest alone does not expire"
    here.delete()
    item = here.item()
    assert item is not None and item.deleted_at is not None
    machines.unregister_container(here.platform, here.vault, HOST)
    refused(lambda: vault_life.delete_vault(here.platform, GROUP, VAULT))
    here.undelete()


def test_a_policy_taken_away_and_made_anew_takes_no_promise_along(here: Premises) -> None:
    here.put(protectionState="ProtectionStopped", policyId="")
    assert delete_policy(here.platform, here.vault, POLICY)
    keep(here, 7)
    error = refused(lambda: here.protect(POLICY))
    assert "2 recovery point(s) would end sooner" in error.message
    keep(here, 30, name="same")
    here.protect("same")


def test_a_plan_tells_what_is_refused(here: Premises) -> None:
    keep(here, 7, name="short")
    edit = policy_plans.plan_edit(here.platform, here.vault, POLICY, kept(7))
    switch = policy_plans.plan_switch(here.platform, here.vault, HOST, ITEM, "short")
    assert [plan.refused and plan.refused.code for plan in (edit, switch)] == [BLOCKED, BLOCKED]
    longer = policy_plans.plan_edit(here.platform, here.vault, POLICY, kept(31))
    assert longer.refused is None
    for call in (here.delete, lambda: keep(here, 7), lambda: here.protect("short")):
        refused(call)


def test_it_is_turned_off_until_it_is_locked(here: Premises) -> None:
    secure(here, immutabilitySettings={"state": "Disabled"})
    refused(lambda: lock(here), STATE_CHANGE)
    keep(here, 29)
    secure(here, immutabilitySettings={"state": "Unlocked"})
    off = {"softDeleteSettings": {"softDeleteState": "Disabled"}}
    secure(here, immutabilitySettings={"state": "Disabled"}, **off)
    secure(here, immutabilitySettings={"state": "Unlocked"})
    lock(here)
    for state in ("Disabled", "Unlocked"):
        again = {"immutabilitySettings": {"state": state}}
        refused(lambda asked=again: secure(here, **asked), STATE_CHANGE)  # type: ignore[misc]
        body = {"location": "local", "properties": {"securitySettings": again}}
        refused(
            lambda asked=body: create_vault(here.platform, GROUP, VAULT, asked),  # type: ignore[misc]
            STATE_CHANGE,
        )
    assert here.vault.immutability == "Locked"
    secure(here, softDeleteSettings={"softDeleteState": "Enabled"})
    assert here.vault.immutability == "Locked", "a partial body leaves it"
    # from the start
    asked = {"immutabilitySettings": {"state": "Unlocked"}}
    body = {"location": "local", "properties": {"securitySettings": asked}}
    made, new = create_vault(here.platform, GROUP, "safe", body)
    assert (new, made.immutability, made.life_version) == (True, "Unlocked", 1)
    body["properties"] = {"securitySettings": {"immutabilitySettings": {"state": "Locked"}}}
    refused(lambda: create_vault(here.platform, GROUP, "safer", body), STATE_CHANGE)
    assert vault_life.delete_vault(here.platform, GROUP, "safe"), "it holds nothing"


def test_the_vault_itself_holds_what_was_promised_before_it_was_immutable(here: Premises) -> None:
    here.pass_days(1)
    drops = dict.fromkeys(here.stored(), "a mistake")
    desk, row = here.platform.vaults, here.vault
    opened = desk.open(row.id)
    plan = opened.plan_expire(drops, explicit=True)
    assert not plan.drops
    assert {drop.reason[:15] for drop in plan.refused} == {"it is locked un"}
    store = desk.store(row.store_url, row.region)
    packs = [info.key for info in store.list(f"{row.id}/packs/")]
    for key in packs:
        with pytest.raises(ObjectLockedError):
            store.delete(key)
    secure(here, immutabilitySettings={"state": "Disabled"})
    told(here)
    assert len(opened.plan_expire(drops, explicit=True).drops) == len(drops)


def test_an_import_sheds_no_lock(here: Premises, tmp_path: Path) -> None:
    lock(here)
    before = here.stored()
    told(here)
    here.agent.stop()
    assert here.lose_server(tmp_path / "other").status == "Completed"
    assert here.vault.immutability == "Locked"
    refused(here.delete)
    keep(here, 7, name="short")
    refused(lambda: here.protect("short"))
    assert here.stored() == before


def test_an_older_copy_of_the_catalog_sheds_no_lock(here: Premises) -> None:
    lock(here)
    told(here)
    with here.platform.catalog.write() as connection:
        vaults.change_vault(connection, here.vault.id, immutability="Disabled", life_version=1)
    opened = here.platform.vaults.open(here.vault.id)
    assert opened.write_life(VaultLife(version=99)) == 99
    life = opened.read_life()
    assert life is not None and (life.version, life.immutability) == (99, "Locked")
    shutil.rmtree(here.vault_folder(here.vault.id) / "life")  # the log says it too
    here.platform.vaults.forget(here.vault.id)
    here.platform.vaults.open(here.vault.id)
    assert here.vault.immutability == "Locked"
    refused(here.delete)


def test_what_cannot_be_read_counts_as_immutable(here: Premises, tmp_path: Path) -> None:
    told(here)
    for path in (here.vault_folder(here.vault.id) / "life").iterdir():
        path.write_bytes(b"damaged")
    here.agent.stop()
    assert here.lose_server(tmp_path / "other").status == "Completed"
    assert here.vault.immutability == "Unlocked"
    refused(here.delete)
    secure(here, immutabilitySettings={"state": "Disabled"})
    here.delete()
