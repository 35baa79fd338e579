"""What is kept how long: GFS retention as values, and the plan with a reason for every point.

Numbers as Azure Backup documents them: a month counts 31 days, a year 366.
Retention is retroactive: a point's tags are fixed when it is made, their durations are those
of the policy as it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal

Range = Literal["daily", "weekly", "monthly", "yearly"]
RANGES: tuple[Range, ...] = ("daily", "weekly", "monthly", "yearly")
DAYS_PER_UNIT = {"Days": 1, "Weeks": 7, "Months": 31, "Years": 366}
WEEKS = ("First", "Second", "Third", "Fourth", "Last")
NO_RULE = "no rule"


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """One range: which days it tags, and for how long. For daily nothing restricts the days.

    ``weekdays`` (0 = Monday) restrict weekly rules; with ``weeks`` they make relative monthly and
    yearly rules ("first Sunday"), with ``month_days`` (1 to 28, 0 = the last day) absolute ones;
    ``months`` restricts yearly rules.
    """

    range: Range
    days: int
    weekdays: frozenset[int] = frozenset()
    weeks: frozenset[str] = frozenset()
    month_days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()

    def tags(self, day: date) -> bool:
        """Whether a scheduled point of this wall-clock ``day`` belongs to the range."""
        if self.months and day.month not in self.months:
            return False
        if self.month_days:
            last = (day + timedelta(days=1)).day == 1
            return day.day in self.month_days or (last and 0 in self.month_days)
        if self.weekdays and day.weekday() not in self.weekdays:
            return False
        return not self.weeks or any(_in_week(day, week) for week in self.weeks)


def _in_week(day: date, week: str) -> bool:
    """Whether ``day`` is the first, ... last of its weekday in its month."""
    if week == "Last":
        return (day + timedelta(days=7)).month != day.month
    return (day.day - 1) // 7 == WEEKS.index(week)


@dataclass(frozen=True, slots=True)
class PointFacts:
    """What retention needs to know of a recovery point. ``retain_until``: of on-demand points."""

    id: str
    time: datetime
    tags: frozenset[str] = frozenset()
    retain_until: datetime | None = None
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of a plan. ``expires_at`` None: no end in sight."""

    point: PointFacts
    keep: bool
    expires_at: datetime | None
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """Decisions, newest point first."""

    decisions: tuple[Decision, ...] = field(default=())

    @property
    def dropped(self) -> list[Decision]:
        return [decision for decision in self.decisions if not decision.keep]


def tags_for(
    rules: Iterable[RetentionRule], day: date, missed: Iterable[str] = ()
) -> frozenset[str]:
    """Ranges a scheduled point of ``day`` belongs to. ``missed``: ranges whose designated backup
    failed since; the next success takes their tag."""
    pending = set(missed)
    return frozenset(rule.range for rule in rules if rule.tags(day) or rule.range in pending)


def missed_ranges(
    rules: Iterable[RetentionRule], days: Iterable[date], pending: Iterable[str] = ()
) -> frozenset[str]:
    """Ranges whose designated backups of ``days`` did not happen, with those ``pending`` already:
    what the next success takes over. Daily is never missed: the next day has its own."""
    missed = {rule.range for day in days for rule in rules if rule.tags(day)}
    return frozenset(missed.union(pending)) - {"daily"}


def still_owed(pending: Iterable[str], rules: Iterable[RetentionRule]) -> frozenset[str]:
    """Of the ranges ``pending`` under an older policy, those that the new one has too: what a
    policy does not have is not taken over later, when it comes back."""
    return frozenset(pending) & {rule.range for rule in rules}


def _later(moment: datetime, days: int) -> datetime:
    try:
        return moment + timedelta(days=days)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def expiry_of(point: PointFacts, rules: Sequence[RetentionRule]) -> tuple[datetime | None, str]:
    """(when, winning rule): the longest of the point's ranges. A point none of whose tags the
    policy still has is judged by the daily duration; without one (daily points under a weekly
    policy) it expires at once."""
    if point.on_demand:
        return point.retain_until, "on demand"
    ends = {rule.range: _later(point.time, rule.days) for rule in rules}
    tagged = {name: end for name, end in ends.items() if name in point.tags}
    if not tagged and "daily" in ends:
        tagged = {"daily": ends["daily"]}
    if not tagged:
        return point.time, NO_RULE
    winner = max(tagged, key=lambda name: (tagged[name], RANGES.index(name)))
    return tagged[winner], winner


def plan_retention(
    points: Iterable[PointFacts],
    rules: Sequence[RetentionRule],
    state: str,
    now: datetime,
) -> RetentionPlan:
    """Keep or drop, with a reason, for every point of one item at ``now``. ``state``: its
    protectionState; stopped protection keeps everything, suspended backups expire by policy.

    The latest point is kept whatever the rules say. When clocks were wrong, two are "latest": the
    newest of all, and the newest that does not lie in the future."""
    ordered = sorted(points, key=lambda point: (point.time, point.id), reverse=True)
    past = [point for point in ordered if point.time <= now]
    latest = {group[0].id for group in (ordered, past) if group}
    return RetentionPlan(tuple(_decide(point, rules, state, now, latest) for point in ordered))


def _decide(
    point: PointFacts,
    rules: Sequence[RetentionRule],
    state: str,
    now: datetime,
    latest: set[str],
) -> Decision:
    end, rule = expiry_of(point, rules)
    if state == "ProtectionStopped":
        return Decision(point, True, None, rule, "protection is stopped and data retained")
    if point.id in latest:
        return Decision(point, True, None, rule, "the latest recovery point never expires")
    if end is None:
        return Decision(point, True, None, rule, "kept on demand without an end")
    if rule == NO_RULE:
        end = min(end, now)
    keep = end > now
    return Decision(point, keep, end, rule, _reason(point, end, rule, "ends" if keep else "ended"))


def _reason(point: PointFacts, end: datetime, rule: str, word: str) -> str:
    if rule == NO_RULE:
        tags = ", ".join(sorted(point.tags)) or "none"
        return f"the policy has no rule for its tags ({tags})"
    return f"{rule.replace('on demand', 'on-demand')} retention {word} {end:%Y-%m-%d %H:%M} UTC"
