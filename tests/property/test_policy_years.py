"""Whole years, day by day, under random policies and changes of them, against the slow model."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from holdfast.domain.policy import Policy, parse_policy, slot_tags
from holdfast.domain.policy_change import PointChange, Regime, compare, count_changes
from holdfast.domain.retention import PointFacts, plan_retention, still_owed
from holdfast.domain.schedule import next_slot
from holdfast.testing.policy_draws import changed_policy, random_policy
from holdfast.testing.policy_model import Body, ModelItem, Point

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
YEARS = 60


class Item:
    """What the product keeps of an item, with the product's own decisions."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state = "Protected"
        self.pending: frozenset[str] = frozenset()
        self.held: list[PointFacts] = []

    def slots(self, since: datetime, until: datetime) -> list[datetime]:
        found: list[datetime] = []
        assert self.policy.schedule is not None
        slot = next_slot(self.policy.schedule, self.policy.zone, since)
        while slot <= until:
            found.append(slot)
            slot = next_slot(self.policy.schedule, self.policy.zone, slot)
        return found

    def succeed(self, name: int, slot: datetime) -> None:
        self.held.append(PointFacts(str(name), slot, slot_tags(self.policy, slot, self.pending)))
        self.pending = frozenset()

    def fail(self, slot: datetime) -> None:
        self.pending = slot_tags(self.policy, slot, self.pending) - {"daily"}

    def regime(self) -> Regime:
        return Regime(self.policy.rules, self.state)

    def change(self, policy: Policy, state: str, now: datetime) -> list[PointChange]:
        before = self.regime()
        self.policy, self.state = policy, state
        self.pending = still_owed(self.pending, policy.rules)
        return compare(self.held, before, self.regime(), now)

    def expire(self, now: datetime) -> set[int]:
        plan = plan_retention(self.held, self.policy.rules, self.state, now)
        gone = {row.point.id for row in plan.dropped}
        self.held = [point for point in self.held if point.id not in gone]
        return {int(name) for name in gone}


class Year:
    """Product and model side by side; every step compares them."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.body: Body = random_policy(self.rng)
        self.item, self.model = Item(parse_policy(self.body)), ModelItem(self.body)
        self.names = itertools.count()
        self.made = self.dropped = self.touched = 0

    def back_up(self, since: datetime, until: datetime) -> None:
        slots = self.item.slots(since, until)
        assert slots == sorted(set(self.model.slots(since, until)))
        for slot in slots if self.item.state == "Protected" else []:
            if self.rng.random() < 0.15:
                self.item.fail(slot)
                self.model.fail(slot)
                continue
            name = next(self.names)
            self.item.succeed(name, slot)
            self.model.succeed(name, slot)
            self.made += 1

    def on_demand(self, now: datetime) -> None:
        until = now + self.rng.choice([DAY, 30 * DAY, 300 * DAY])
        name = next(self.names)
        facts = PointFacts(str(name), now, retain_until=until, on_demand=True)
        self.item.held.append(facts)
        self.model.points.append(Point(name, now, until=until, on_demand=True))

    def change(self, now: datetime) -> None:
        """Edit, switch, suspend, stop or resume; the plan must say what the model sees happen."""
        self.body = changed_policy(self.rng, self.body)
        state = self.rng.choice(["Protected"] * 6 + ["BackupsSuspended", "ProtectionStopped"])
        before = {point.name: self.model.end(point) for point in self.model.points}
        changes = self.item.change(parse_policy(self.body), state, now)
        self.model.change(self.body)
        self.model.state = state
        after = {point.name: self.model.end(point) for point in self.model.points}
        expected = {name: effect(before[name], after[name], now) for name in before}
        assert {int(one.after.point.id): one.effect for one in changes} == expected
        self.touched += count_changes(changes).affected
        if self.rng.random() < 0.5:
            gone = self.expire(now)
            assert gone == {name for name, one in expected.items() if one in ("expires", "due")}

    def expire(self, now: datetime) -> set[int]:
        gone = self.item.expire(now)
        assert gone == self.model.expire(now)
        self.dropped += len(gone)
        return gone


def effect(before: datetime | None, after: datetime | None, now: datetime) -> str:
    if after is not None and after <= now:
        return "due" if before is not None and before <= now else "expires"
    if before == after:
        return "unchanged"
    if before is None:
        return "shorter"
    return "longer" if after is None or after > before else "shorter"


@pytest.mark.parametrize("seed", range(YEARS))
def test_a_year_of_backups_failures_changes_and_expiry(seed: int) -> None:
    year = Year(seed)
    for number in range(365):
        morning = START + number * DAY
        year.back_up(morning, morning + DAY / 2)
        if year.rng.random() < 0.03:
            year.on_demand(morning + DAY / 2 + timedelta(seconds=1))
        if year.rng.random() < 0.04:
            year.change(morning + DAY / 2 + timedelta(seconds=2))
        year.back_up(morning + DAY / 2, morning + DAY)
        year.expire(morning + DAY)
    assert year.made > 5 and year.dropped > 0 and year.touched > 0
    assert {int(point.id) for point in year.item.held} == {p.name for p in year.model.points}


def test_the_years_hold_every_kind_of_change() -> None:
    """So that the test above cannot become empty unnoticed."""
    seen: set[str] = set()
    for seed in range(YEARS):
        rng = Random(seed)
        old = random_policy(rng)
        for _ in range(12):
            new = changed_policy(rng, old)
            kinds = [body["schedulePolicy"]["scheduleRunFrequency"] for body in (old, new)]
            seen.add("->".join(kinds))
            seen |= {name for name in new["retentionPolicy"] if name not in old["retentionPolicy"]}
            old = new
    assert {"Daily->Weekly", "Weekly->Daily", "Daily->Hourly", "monthlySchedule"} <= seen
