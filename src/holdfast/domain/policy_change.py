"""What a change of policy does to the recovery points there are: before and after, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Literal

from holdfast.domain.retention import Decision, PointFacts, RetentionRule, plan_retention

Effect = Literal["expires", "shorter", "longer", "due", "unchanged"]
FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Regime:
    """What decides about an item's points. ``state``: its protectionState."""

    rules: tuple[RetentionRule, ...]
    state: str


KEEPS_ALL = Regime((), "ProtectionStopped")  # an item without a policy


@dataclass(frozen=True, slots=True)
class PointChange:
    """One point under the old and under the new regime."""

    before: Decision
    after: Decision

    @property
    def effect(self) -> Effect:
        """``expires``: the change drops it at the next expiry. ``due``: that would drop it either
        way. ``shorter``, ``longer``: its end moves."""
        if not self.after.keep:
            return "expires" if self.before.keep else "due"
        if not self.before.keep:
            return "longer"
        old, new = self.before.expires_at or FOREVER, self.after.expires_at or FOREVER
        return "unchanged" if old == new else "shorter" if new < old else "longer"


@dataclass(frozen=True, slots=True)
class ChangeCounts:
    """How many points a change touches, by effect."""

    total: int = 0
    expires: int = 0
    shorter: int = 0
    longer: int = 0
    due: int = 0

    def __add__(self, other: ChangeCounts) -> ChangeCounts:
        return ChangeCounts(
            self.total + other.total,
            self.expires + other.expires,
            self.shorter + other.shorter,
            self.longer + other.longer,
            self.due + other.due,
        )

    @property
    def affected(self) -> int:
        return self.expires + self.shorter + self.longer


def compare(
    points: Iterable[PointFacts], old: Regime, new: Regime, now: datetime
) -> list[PointChange]:
    """Every point of one item at ``now``, newest first."""
    held = list(points)
    before = plan_retention(held, old.rules, old.state, now).decisions
    after = plan_retention(held, new.rules, new.state, now).decisions
    return [PointChange(one, other) for one, other in zip(before, after, strict=True)]


def count_changes(changes: Iterable[PointChange]) -> ChangeCounts:
    found = Counter(change.effect for change in changes)
    return ChangeCounts(
        found.total(), found["expires"], found["shorter"], found["longer"], found["due"]
    )


def total_changes(counts: Iterable[ChangeCounts]) -> ChangeCounts:
    """Of several items together."""
    sums = [sum(figures) for figures in zip(*map(astuple, counts), strict=True)]
    return ChangeCounts(*sums)
