"""The report of a vault: what is protected, how well, and what it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection

from holdfast.catalog import alerts, containers, items, jobs, points, policies, usage
from holdfast.catalog.alerts import AlertRow, Wanted
from holdfast.catalog.items import ItemRow
from holdfast.catalog.usage import WHOLE, UsageSample
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.compliance import WINDOW, Compliance, compliance
from holdfast.domain.lifecycle import backups_run
from holdfast.domain.policy import Policy
from holdfast.services.figures import item_health, parsed_policies
from holdfast.services.platform import Platform
from holdfast.services.samples import sample_of

MOST_ALERTS = 100
BATCH = 500  # items whose points are read at once
NONE_PROMISED = Compliance()


@dataclass(frozen=True, slots=True)
class ItemReport:
    """``stored_bytes``: what its recovery points added to the vault. ``growth_bytes``: the change
    of that over the window; None while nothing older is known."""

    name: str
    machine: str
    policy: str
    state: str
    health: str
    last_status: str
    last_backup_at: datetime | None
    newest_point_at: datetime | None
    logical_bytes: int
    stored_bytes: int
    recovery_points: int
    growth_bytes: int | None
    compliance: Compliance


@dataclass(frozen=True, slots=True)
class DayOfBackups:
    """How the backups that began on a day (UTC) ended."""

    day: date
    completed: int
    warned: int
    failed: int


@dataclass(frozen=True, slots=True)
class VaultReport:
    """``history``: (day, stored bytes), oldest first."""

    vault: str
    group: str
    location: str
    made_at: datetime
    stored_bytes: int
    recovery_points: int
    growth_bytes: int | None
    known_since: date
    items: Sequence[ItemReport]
    days: Sequence[DayOfBackups]
    history: Sequence[tuple[date, int]]
    alerts: Sequence[AlertRow]

    @property
    def expected(self) -> int:
        return sum(item.compliance.expected for item in self.items)

    @property
    def present(self) -> int:
        return sum(item.compliance.present for item in self.items)


def report_of(platform: Platform, vault: VaultRow) -> VaultReport:
    """Everything as it is now; StoreError when the vault does not open."""
    now = platform.now()
    today = {sample.item_id: sample for sample in sample_of(platform, vault)}
    with platform.catalog.read() as connection:
        first = (now - WINDOW).date()
        known = usage.samples_since(connection, vault.id, first)
        before = usage.oldest_since(connection, vault.id, first)
        found = _items(connection, vault, today, before, now)
        days = _days(connection, vault, now)
        asked = Wanted(vault_ids=[vault.id], condition="Fired")
        standing = alerts.page_alerts(connection, asked, limit=MOST_ALERTS).rows
    whole = today[WHOLE]
    history = {sample.day: sample.stored_bytes for sample in known}
    history[whole.day] = whole.stored_bytes
    return VaultReport(
        vault=vault.name,
        group=vault.group_key,
        location=vault.location,
        made_at=now,
        stored_bytes=whole.stored_bytes,
        recovery_points=whole.recovery_points,
        growth_bytes=_growth(whole, before),
        known_since=min(history),
        items=found,
        days=days,
        history=sorted(history.items()),
        alerts=[row for row in standing if row.state != "Closed"],
    )


def _growth(sample: UsageSample, before: Mapping[str, UsageSample]) -> int | None:
    old = before.get(sample.item_id)
    if old is None or old.day == sample.day:
        return None
    return sample.stored_bytes - old.stored_bytes


def _items(
    connection: Connection,
    vault: VaultRow,
    today: Mapping[str, UsageSample],
    before: Mapping[str, UsageSample],
    now: datetime,
) -> list[ItemReport]:
    named = {row.id: row.name for row in policies.list_policies(connection, vault.id)}
    known = parsed_policies(connection, vault)
    hosts = containers.friendly_names(connection, vault.id)
    held = items.items_of_vault(connection, vault.id)
    met = _compliance(connection, held, known, now)
    nothing = UsageSample(vault.id, now.date(), WHOLE, 0, 0, 0)
    found = []
    for item in held:
        policy_id = item.policy_id or ""
        sample = today.get(item.id, nothing)
        found.append(
            ItemReport(
                name=item.friendly_name,
                machine=hosts.get(item.container_id, ""),
                policy=named.get(policy_id, ""),
                state=item.life_state,
                health=item_health(item, known.get(policy_id), now),
                last_status=item.last_backup_status,
                last_backup_at=item.last_backup_at,
                newest_point_at=item.latest_point_at,
                logical_bytes=sample.logical_bytes,
                stored_bytes=sample.stored_bytes,
                recovery_points=sample.recovery_points,
                growth_bytes=_growth(sample, before),
                compliance=met.get(item.id, NONE_PROMISED),
            )
        )
    return found


def _compliance(
    connection: Connection, held: Sequence[ItemRow], known: Mapping[str, Policy], now: datetime
) -> dict[str, Compliance]:
    """Of the items whose backups run, by item."""
    running = [
        item for item in held if backups_run(item.life_state) and (item.policy_id or "") in known
    ]
    found: dict[str, Compliance] = {}
    for start in range(0, len(running), BATCH):
        some = running[start : start + BATCH]
        times = points.times_since(connection, [item.id for item in some], now - WINDOW)
        for item in some:
            policy = known[item.policy_id or ""]
            found[item.id] = compliance(policy, times[item.id], item.due_since, now)
    return found


def _days(connection: Connection, vault: VaultRow, now: datetime) -> list[DayOfBackups]:
    """Every day of the window, also those without a backup."""
    counted: Counter[tuple[date, str]] = Counter(
        (started.date(), status)
        for started, status in jobs.backups_since(connection, vault.id, now - WINDOW)
    )
    first, length = (now - WINDOW).date(), WINDOW.days + 1
    return [
        DayOfBackups(
            day,
            counted[day, "Completed"],
            counted[day, "CompletedWithWarnings"],
            counted[day, "Failed"],
        )
        for day in (first + timedelta(days=number) for number in range(length))
    ]
