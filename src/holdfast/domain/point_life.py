"""Recovery points that a shorter retention drops: they are kept for the vault's soft delete period
first, can be restored meanwhile, and come back when the retention is raised again.

What tells such a point from one whose time has come is a promise: the latest end that an expiry saw
for it under a policy. Points that end as promised go at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from holdfast.domain.retention import NO_RULE, Decision, PointFacts, RetentionRule, expiry_of
from holdfast.domain.soft_delete import SoftDelete, is_due, purge_time


@dataclass(frozen=True, slots=True)
class PointLife:
    """``promised_until``: the promise, None before the first expiry saw the point. ``purge_at``:
    when a softly deleted point goes, None while it is kept."""

    promised_until: datetime | None = None
    purge_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the points of one item at ``now``. ``rules``: of its policy, none while nothing
    expires. ``first_promise``: what its policy promised a point when it was made."""

    rules: Sequence[RetentionRule]
    setting: SoftDelete
    now: datetime
    first_promise: Callable[[PointFacts], datetime | None]

    def judge(self, decision: Decision, life: PointLife) -> tuple[Decision, PointLife]:
        """What becomes of a point that retention keeps or drops, and its life after that."""
        if decision.keep:
            return decision, PointLife(self._promised(decision.point, life), None)
        if life.purge_at is None:
            promised = life.promised_until or self.first_promise(decision.point)
            if not self.setting.keeps or promised is None or promised <= self.now:
                return decision, life
            life = PointLife(promised, purge_time(self.now, self.setting.days))
        if is_due(life.purge_at, self.now):
            reason = f"softly deleted until {life.purge_at:%Y-%m-%d %H:%M} UTC ({decision.reason})"
            return replace(decision, reason=reason), life
        reason = f"softly deleted: {decision.reason}, sooner than was promised"
        return replace(decision, keep=True, expires_at=life.purge_at, reason=reason), life

    def _promised(self, point: PointFacts, life: PointLife) -> datetime | None:
        if not self.rules:
            return life.promised_until
        end, rule = expiry_of(point, self.rules)
        if end is None or rule == NO_RULE:
            return life.promised_until
        return max(end, life.promised_until or end)
