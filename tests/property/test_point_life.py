"""Points that a shorter retention drops, against what must hold of any history of policies."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.point_life import Judge, PointLife
from holdfast.domain.retention import PointFacts, RetentionRule, plan_retention
from holdfast.domain.soft_delete import SoftDelete

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTING = SoftDelete(days=14)
DAYS = st.sampled_from([None, None, None, None, 7, 10, 30, 60, 0])  # None: no change, 0: stopped


@dataclass
class Held:
    facts: PointFacts
    life: PointLife = field(default_factory=PointLife)
    seen: datetime | None = None  # the latest end any expiry saw
    soft_since: datetime | None = None


@dataclass
class World:
    setting: SoftDelete = SETTING
    points: list[Held] = field(default_factory=list)
    gone: list[tuple[datetime, Held]] = field(default_factory=list)

    def expire(self, rules: tuple[RetentionRule, ...], state: str, now: datetime) -> None:
        held = {one.facts.id: one for one in self.points}
        plan = plan_retention([one.facts for one in self.points], rules, state, now)
        judge = Judge(rules if state == "Protected" else (), self.setting, now, lambda _point: None)
        for decision in plan.decisions:
            one = held[decision.point.id]
            judged, one.life = judge.judge(decision, one.life)
            if decision.keep:
                assert judged.keep
                assert one.life.purge_at is None, "raised retention brings it back"
                one.soft_since = None
                if state == "Protected":
                    end = one.facts.time + rules[0].days * DAY
                    one.seen = max(end, one.seen or end)
            elif judged.keep:
                one.soft_since = one.soft_since or now
            else:
                self.points.remove(one)
                self.gone.append((now, one))


@given(st.lists(DAYS, min_size=20, max_size=120))
def test_what_was_promised_longer_is_kept_for_the_period_first(changes: list[int | None]) -> None:
    world, rules, state = World(), (RetentionRule("daily", 30),), "Protected"
    for number, change in enumerate(changes):
        now = START + number * DAY
        if change:
            rules, state = (RetentionRule("daily", change),), "Protected"
        elif change == 0:
            state = "ProtectionStopped"
        world.points.append(Held(PointFacts(f"{number:04}", now, frozenset({"daily"}))))
        world.expire(rules, state, now)
        assert world.points[-1].facts.time == now or world.points, "the latest stays"
        if state == "ProtectionStopped":
            assert not any(at == now for at, _ in world.gone)
    for at, one in world.gone:
        if one.seen is not None and one.seen > at:
            assert one.soft_since is not None
            assert at - one.soft_since >= 14 * DAY
        if one.soft_since is None:
            assert one.seen is None or one.seen <= at


def test_without_soft_delete_it_goes_at_once() -> None:
    world = World(setting=SoftDelete("Disabled"))
    for number in range(12):
        now = START + number * DAY
        world.points.append(Held(PointFacts(f"{number:04}", now, frozenset({"daily"}))))
        world.expire((RetentionRule("daily", 30),), "Protected", now)
    world.expire((RetentionRule("daily", 7),), "Protected", now)
    assert len(world.points) == 7


def test_what_ends_as_promised_goes_at_once() -> None:
    world, rules = World(), (RetentionRule("daily", 7),)
    for number in range(30):
        now = START + number * DAY
        world.points.append(Held(PointFacts(f"{number:04}", now, frozenset({"daily"}))))
        world.expire(rules, "Protected", now)
    assert len(world.points) == 7
