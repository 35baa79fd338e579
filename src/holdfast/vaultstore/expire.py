"""Expire: drop recovery points. A plan is computed, shown, and applied once by a log record.

Which points retention drops is decided by the domain's rules; here a plan is checked against what
the vault holds. The latest point of an item leaves only when a person asks (``explicit``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast.errors import ConflictError
from holdfast.vaultstore import locking, log
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.reserve import append_freeing
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.values import ExpireDrop, ExpirePlan
from holdfast.vaultstore.vaultclock import from_ns


def plan_expire(
    state: LogState, drops: Mapping[str, str], explicit: bool, now_ns: int
) -> ExpirePlan:
    """A plan over a state at vault time ``now_ns``. Points already gone are left out; the latest of
    an item is refused, and so is what is locked, whoever asks."""
    pinned = state.pinned()
    planned: list[ExpireDrop] = []
    refused: list[ExpireDrop] = []
    for rp_id in sorted(drops.keys() & state.points.keys()):
        point = state.points[rp_id]
        item_key, why = point.op.item_key, ""
        if state.newest(item_key) == rp_id and not explicit:
            why = "the latest recovery point never expires by itself"
        elif point.lock_until_ns > now_ns:
            why = f"it is locked until {from_ns(point.lock_until_ns):%Y-%m-%d %H:%M} UTC"
        drop = ExpireDrop(
            rp_id=rp_id, item_key=item_key, reason=why or drops[rp_id], pinned=rp_id in pinned
        )
        (refused if why else planned).append(drop)
    return ExpirePlan(
        basis=state.sequence, drops=tuple(planned), refused=tuple(refused), explicit=explicit
    )


def apply_expire(core: VaultCore, plan: ExpirePlan) -> list[str]:
    """Drop the plan's points in one record; the ids that left now, in the plan's order.

    ConflictError (ClockUntrusted) for retention's plans while time is in doubt."""
    left: list[str] = []

    def dropping(state: LogState) -> Sequence[log.Operation]:
        left.clear()
        _refuse_new_latest(state, plan)
        _refuse_locked(core.decide_at(state), plan)
        points = [
            log.PointDropped(rp_id=drop.rp_id, reason=drop.reason)
            for drop in plan.drops
            if drop.rp_id in state.points
        ]
        if not points:
            return ()
        left.extend(point.rp_id for point in points)
        return (log.PointsExpired(points=tuple(points), explicit=plan.explicit),)

    with core.lock:
        core.refresh()
        if not plan.explicit:
            core.clock.require_trust(core.state.time_ns, "expiry")
        append_freeing(core, dropping)
    return left


def _refuse_locked(state: LogState, plan: ExpirePlan) -> None:
    for drop in plan.drops:
        point = state.points.get(drop.rp_id)
        if point is not None and locking.is_locked(point.lock_until_ns, state):
            raise ConflictError(
                f"recovery point {drop.rp_id} is locked: the vault is immutable, or the clock went "
                "back since the plan was made",
                code="PlanStale",
                hint="Compute the plan again.",
                retry="same",
            )


def _refuse_new_latest(state: LogState, plan: ExpirePlan) -> None:
    if plan.explicit:
        return
    for drop in plan.drops:
        if drop.rp_id in state.points and state.newest(drop.item_key) == drop.rp_id:
            raise ConflictError(
                f"recovery point {drop.rp_id} has become the latest of {drop.item_key}",
                code="PlanStale",
                hint="Compute the plan again.",
                retry="same",
            )
