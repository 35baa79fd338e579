"""Alerts as jobs, people and time raise them, and as they end; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.bootstrap import Parts, build
from holdfast.catalog import alerts, containers, items, outbox, points, upkeep, vaults
from holdfast.catalog.alerts import AlertRow, Wanted
from holdfast.catalog.upkeep import Finding
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.alerts import EVENTS
from holdfast.domain.default_policies import default_policy
from holdfast.errors import IntegrityError, NotFoundError, SourceError, UsageError
from holdfast.services import alerts as service
from holdfast.services import item_life
from holdfast.services import policies as policy_service
from holdfast.services.alert_watch import look
from holdfast.settings import Settings
from holdfast.testing.catalog_rows import DAILY, Estate, furnish, point_of
from holdfast.testing.job_yard import VAULT_ID, JobYard
from holdfast.testing.ports import MovableClock, SeededRandom

START = datetime(2026, 3, 2, 12, tzinfo=UTC)


def standing(yard: JobYard) -> dict[str, AlertRow]:
    with yard.catalog.read() as connection:
        page = alerts.page_alerts(connection, Wanted(vault_ids=[VAULT_ID], condition="Fired"))
    return {row.rule: row for row in page.rows}


def told(yard: JobYard) -> list[tuple[str, str]]:
    with yard.catalog.read() as connection:
        rows = [
            row
            for alert in alerts.page_alerts(connection, Wanted(vault_ids=[VAULT_ID])).rows
            for row in outbox.messages_of(connection, alert.id)
        ]
    ordered = sorted(rows, key=lambda row: row.id)
    return [(str(row.message["rule"]), row.event) for row in ordered]


@pytest.fixture
def yard(tmp_path: Path, catalog_url: str) -> Iterator[JobYard]:
    with JobYard(tmp_path, catalog_url) as made:
        yield made


def break_agent(yard: JobYard) -> None:
    def fail(_task: object) -> None:
        raise SourceError("the folder /data is gone", code="SourceMissing", hint="put it back")

    yard.agent.before = fail


def test_failures_make_one_alert_and_success_ends_it(yard: JobYard) -> None:
    break_agent(yard)
    first, second = yard.run("backup"), yard.run("backup")
    assert (first.status, second.status) == ("Failed", "Failed")
    alert = standing(yard)["BackupFailure"]
    assert (alert.severity, alert.state, alert.subject) == (1, "New", "docs")
    assert "the folder /data is gone [SourceMissing]" in alert.message
    assert alert.hint == "put it back"
    assert (alert.occurrences, alert.details["jobId"]) == (2, second.id)
    yard.agent.before = lambda _task: None
    assert yard.run("backup").status == "Completed"
    assert standing(yard) == {}
    assert told(yard) == [("BackupFailure", "fired"), ("BackupFailure", "resolved")]


def test_a_failed_restore_has_an_alert_until_one_succeeds(yard: JobYard) -> None:
    point = yard.run("backup").result["recoveryPointId"]
    break_agent(yard)
    assert yard.run("restore", recoveryPointId=point).status == "Failed"
    alert = standing(yard)["RestoreFailure"]
    assert (alert.severity, alert.subject) == (1, "docs")
    assert "SourceMissing" in alert.message
    yard.agent.before = lambda _task: None
    assert yard.run("backup").status == "Completed"
    assert set(standing(yard)) == {"RestoreFailure"}, "a backup is no restore"
    assert yard.run("restore", recoveryPointId=point).status == "Completed"
    assert standing(yard) == {}
    assert told(yard) == [("RestoreFailure", "fired"), ("RestoreFailure", "resolved")]


def test_upkeep_that_fails_has_an_alert_until_it_goes_well(yard: JobYard) -> None:
    yard.run("backup")
    yard.vault_errors.append(IntegrityError("its index cannot be read", hint="look into the log"))
    assert yard.run("collect").status == "Failed"
    alert = standing(yard)["UpkeepFailure"]
    assert (alert.severity, alert.subject) == (2, "v1")
    assert yard.run("collect").status == "Completed"
    assert standing(yard) == {}


def test_job_alerts_are_off_where_the_vault_says_so(yard: JobYard) -> None:
    given = {"monitoringSettings": {"azureMonitorAlertSettings": {}}}
    given["monitoringSettings"]["azureMonitorAlertSettings"]["alertsForAllJobFailures"] = "Disabled"
    with yard.catalog.write() as connection:
        vaults.change_vault(connection, VAULT_ID, properties={"properties": given})
    break_agent(yard)
    assert yard.run("backup").status == "Failed"
    assert standing(yard) == {}


def test_a_damaged_vault_is_critical_until_it_is_whole(yard: JobYard, tmp_path: Path) -> None:
    yard.run("backup")
    path = next(one for one in tmp_path.glob("vaults/*/packs/**/*") if one.is_file())
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:-40] + b"x" * 40)
    assert yard.run("verify").error_code == "VaultDamaged"
    damaged = standing(yard)["VaultDamaged"]
    assert (damaged.severity, damaged.about) == (0, VAULT_ID)
    path.write_bytes(whole)
    assert yard.run("verify").status == "Completed"
    assert "VaultDamaged" not in standing(yard)


# without jobs: what people do, and what time does


class Post:
    """A server's parts over one furnished vault, its clock moved by hand, nothing running."""

    def __init__(self, parts: Parts, estate: Estate, clock: MovableClock) -> None:
        self.platform = parts.platform
        self.estate = estate
        self.clock = clock
        self.since = clock.now() - timedelta(days=1)

    def look(self) -> dict[str, AlertRow]:
        look(self.platform, self.since)
        return self.fired()

    def fired(self) -> dict[str, AlertRow]:
        asked = Wanted(vault_ids=[self.estate.vault.id], condition="Fired")
        with self.platform.catalog.read() as connection:
            return {row.rule: row for row in alerts.page_alerts(connection, asked).rows}

    def change_item(self, **values: object) -> None:
        with self.platform.catalog.write() as connection:
            items.change_item(connection, self.estate.item.id, **values)

    def put_item(self, **properties: object) -> None:
        item_life.put_item(
            self.platform, self.estate.vault, "Linux;web1", "docs", dict(properties), "ann"
        )


@pytest.fixture
def post(tmp_path: Path, catalog_url: str) -> Iterator[Post]:
    clock, rng = MovableClock(START), SeededRandom(3)
    parts = build(tmp_path / "data", Settings(catalog_url=catalog_url), clock, rng)
    with parts.platform.catalog.write() as connection:
        estate = furnish(connection, rng, START)
    yield Post(parts, estate, clock)
    parts.close()


def test_an_item_without_a_point_in_time_has_an_alert_until_it_has_one(post: Post) -> None:
    assert post.look() == {}
    post.clock.pass_time(timedelta(days=2, hours=2))
    missed = post.look()["RpoMissed"]
    assert missed.subject == "docs"
    assert "none yet" in missed.message
    assert post.look()["RpoMissed"].id == missed.id
    post.change_item(latest_point_at=post.clock.now())
    assert "RpoMissed" not in post.look()


def test_a_silent_agent_has_an_alert_until_it_is_heard(post: Post) -> None:
    post.change_item(latest_point_at=START + timedelta(days=30))
    post.clock.pass_time(timedelta(hours=23))
    assert post.look() == {}
    post.clock.pass_time(timedelta(hours=2))
    lost = post.look()["AgentLost"]
    assert (lost.subject, lost.severity) == ("web1", 1)
    assert "2026-03-02 12:00" in lost.message
    with post.platform.catalog.write() as connection:
        agent_id = post.estate.agent.id
        containers.change_agent(connection, agent_id, last_seen_at=post.clock.now())
    assert post.look() == {}


def test_a_silent_agent_that_protects_nothing_is_no_news(post: Post) -> None:
    post.change_item(protection_state="ProtectionStopped", policy_id=None)
    post.clock.pass_time(timedelta(days=3))
    assert post.look() == {}


def test_a_store_that_fails_its_test(post: Post) -> None:
    vault_id = post.estate.vault.id
    for status, expected in (("Failed", {"StoreUnsound"}), ("Completed", set[str]())):
        found = Finding(vault_id, "probe", status, "it overwrites", {"code": "X"}, START)
        with post.platform.catalog.write() as connection:
            upkeep.add_finding(connection, found)
        assert set(post.look()) == expected


def test_stopping_and_resuming_protection(post: Post) -> None:
    post.put_item(protectionState="ProtectionStopped", policyId="")
    stopped = post.fired()["ProtectionStopped"]
    assert stopped.details["itemName"] == "docs"
    post.put_item(policyId="daily")
    assert post.fired() == {}


def test_deleting_data_is_a_security_alert(post: Post) -> None:
    vault = post.estate.vault
    item_life.delete_item(post.platform, vault, "Linux;web1", "docs", "mallory")
    alert = post.fired()["DeleteBackupData"]
    assert alert.severity == 0
    assert "mallory" in alert.message


def test_deleted_data_that_goes_soon_is_told_two_days_before(post: Post) -> None:
    vault = post.estate.vault
    item_life.delete_item(post.platform, vault, "Linux;web1", "docs", "ann")
    post.clock.pass_time(timedelta(days=11, hours=23))
    assert "UpcomingPurge" not in post.look()
    post.clock.pass_time(timedelta(hours=1))
    alert = post.look()["UpcomingPurge"]
    assert (alert.severity, alert.subject) == (0, "docs")
    assert "2026-03-16 12:00" in alert.message
    assert "undelete" in alert.hint
    post.clock.pass_time(timedelta(days=1))
    again = post.look()["UpcomingPurge"]
    assert (again.id, again.occurrences) == (alert.id, 1)
    post.put_item(isRehydrate=True)
    assert "UpcomingPurge" not in post.look()


def test_soft_delete_off_is_a_security_alert_until_it_is_on(post: Post) -> None:
    vault = post.estate.vault

    def switched(state: str) -> VaultRow:
        settings = {"securitySettings": {"softDeleteSettings": {"softDeleteState": state}}}
        return replace(vault, properties={"properties": settings})

    def switch(before: str, after: str) -> None:
        with post.platform.catalog.write() as connection:
            service.vault_changed(post.platform, connection, switched(before), switched(after))

    switch("Enabled", "Disabled")
    alert = post.fired()["SoftDeleteDisabled"]
    assert alert.severity == 0
    assert "deleted data goes at once" in alert.message
    switch("Disabled", "AlwaysON")
    assert "SoftDeleteDisabled" not in post.fired()


def test_shorter_retention_of_a_policy_in_use(post: Post) -> None:
    vault = post.estate.vault
    shorter = {**DAILY, "retentionPolicy": {**DAILY["retentionPolicy"]}}
    del shorter["retentionPolicy"]["weeklySchedule"]
    policy_service.put_policy(post.platform, vault, "daily", shorter)
    alert = post.fired()["ShorterPolicyRetention"]
    assert alert.details["shortened"] == ["weekly 28 days to none"]
    policy_service.put_policy(post.platform, vault, "daily", DAILY)
    assert post.fired()["ShorterPolicyRetention"].occurrences == 1, "longer is no news"


def test_shorter_retention_by_another_policy(post: Post) -> None:
    vault = post.estate.vault
    policy_service.put_policy(post.platform, vault, "long", default_policy())
    post.put_item(policyId="long")
    assert set(post.fired()) == {"ShorterRetention"}, "it has no weekly range"
    assert post.fired()["ShorterRetention"].details["policyName"] == "long"


def test_a_policy_nobody_uses_may_be_shortened_in_silence(post: Post) -> None:
    vault = post.estate.vault
    post.change_item(policy_id=None, protection_state="ProtectionStopped")
    policy_service.put_policy(post.platform, vault, "daily", default_policy())
    assert post.fired() == {}


def test_people_move_states_beside_the_cause(post: Post) -> None:
    post.put_item(protectionState="ProtectionStopped", policyId="")
    alert, chosen = post.fired()["ProtectionStopped"], [post.estate.vault]
    change = service.change_state
    row, _ = change(post.platform, chosen, alert.id, "acknowledged", "on it", "ann")
    assert (row.state, row.condition, row.changed_by) == ("Acknowledged", "Fired", "ann")
    change(post.platform, chosen, alert.id, "Closed", "", "ann")
    with post.platform.catalog.read() as connection:
        events = alerts.history_of(connection, alert.id)
    moves = [(one.event, one.new_value, one.by, one.comment) for one in events][1:]
    assert moves == [
        ("StateChange", "Acknowledged", "ann", "on it"),
        ("StateChange", "Closed", "ann", ""),
    ]
    with pytest.raises(UsageError):
        change(post.platform, chosen, alert.id, "Gone", "", "ann")
    with pytest.raises(NotFoundError):
        change(post.platform, [], alert.id, "New", "", "ann")


def test_alerts_of_a_removed_item_end(post: Post) -> None:
    post.put_item(protectionState="ProtectionStopped", policyId="")
    with post.platform.catalog.write() as connection:
        items.remove_item(connection, post.estate.item.id)
    assert post.look() == {}


def test_old_alerts_are_forgotten_and_standing_ones_are_not(post: Post) -> None:
    post.put_item(protectionState="ProtectionStopped", policyId="")
    later = START + timedelta(days=400)
    with post.platform.catalog.write() as connection:
        assert alerts.remove_alerts_before(connection, later) == 0
    post.put_item(policyId="daily")
    with post.platform.catalog.write() as connection:
        assert alerts.remove_alerts_before(connection, START) == 0
        assert alerts.remove_alerts_before(connection, later) == 1


def test_what_happened_once_is_forgotten_in_time_though_nobody_closed_it(post: Post) -> None:
    item_life.delete_item(post.platform, post.estate.vault, "Linux;web1", "docs", "mallory")
    before = len(post.fired())
    with post.platform.catalog.write() as connection:
        assert alerts.remove_alerts_before(connection, START, EVENTS) == 0
        later = START + timedelta(days=181)
        assert alerts.remove_alerts_before(connection, later, EVENTS) == 1
    assert (len(post.fired()), "DeleteBackupData" in post.fired()) == (before - 1, False)


def test_deleted_data_has_an_alert_two_days_before_it_goes_until_it_is_back(post: Post) -> None:
    item_life.delete_item(post.platform, post.estate.vault, "Linux;web1", "docs", "mallory")
    post.clock.pass_time(timedelta(days=11, hours=23))
    assert "UpcomingPurge" not in post.look()
    post.clock.pass_time(timedelta(hours=2))
    alert = post.look()["UpcomingPurge"]
    assert (alert.severity, alert.subject) == (0, "docs")
    assert "goes for good at the maintenance after 2026-03-16 12:00 UTC" in alert.message
    post.put_item(isRehydrate=True)
    assert not {"UpcomingPurge", "DeleteBackupData"} & set(post.look())


def test_a_resumed_item_is_not_late_for_the_time_it_was_stopped(post: Post) -> None:
    post.change_item(latest_point_at=START, latest_point_id="1", protection_state="Protected")
    post.put_item(protectionState="ProtectionStopped", policyId="")
    post.clock.pass_time(timedelta(days=40))
    post.put_item(policyId="daily")
    assert "RpoMissed" not in post.look()
    post.clock.pass_time(timedelta(days=2, hours=2))
    assert "RpoMissed" in post.look(), "now its schedule counts"


def test_a_change_of_policy_is_no_missed_backup_and_makes_up_for_none(post: Post) -> None:
    post.change_item(latest_point_at=START, latest_point_id="1", protection_state="Protected")
    vault = post.estate.vault
    policy_service.put_policy(post.platform, vault, "early", default_policy("12:30"))
    post.clock.pass_time(timedelta(hours=24, minutes=45))  # the first of the old was due at one
    assert "RpoMissed" not in post.look()
    post.put_item(policyId="early")
    assert "RpoMissed" not in post.look(), "of the new one neither"
    post.clock.pass_time(timedelta(days=3))
    assert "RpoMissed" in post.look()
    policy_service.put_policy(post.platform, vault, "early", default_policy("12:00"))
    assert "RpoMissed" in post.look(), "another time is no backup"


def test_resuming_under_a_policy_that_drops_points_is_a_security_alert(post: Post) -> None:
    item, old = post.estate.item, START - timedelta(days=300)
    with post.platform.catalog.write() as connection:
        for number, at in enumerate((old, START)):
            assert points.put_point(connection, point_of(item, number, at))
    post.change_item(latest_point_at=START, latest_point_id="1", protection_state="Protected")
    post.put_item(protectionState="ProtectionStopped", policyId="")
    post.put_item(policyId="daily")
    alert = post.fired()["ShorterRetention"]
    assert "1 recovery points kept until now expire" in alert.message
