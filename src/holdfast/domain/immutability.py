"""Immutability of a vault: what it is set to, and what it blocks.

States are Azure's: Disabled; Unlocked, which can be taken back; Locked, which never can. What is
blocked is the same in both: no recovery point goes, or ends, sooner than it was to. Retention is
compared range by range in days; which days a range tags is a matter of the schedule, and copies of
the instant tier are not protected, as in Azure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from holdfast.domain.alerts import shortened
from holdfast.domain.policy import Policy
from holdfast.domain.retention import NO_RULE, RANGES, PointFacts, RetentionRule, expiry_of
from holdfast.domain.soft_delete import SoftDelete
from holdfast.errors import ConflictError, UsageError

State = Literal["Disabled", "Unlocked", "Locked"]
STATES: tuple[State, ...] = ("Disabled", "Unlocked", "Locked")
Rules = Sequence[RetentionRule]
STATE_CHANGE = "UserErrorUnsupportedVaultImmutabilityStateChange"
BLOCKED = "UserErrorVaultImmutable"
FOREVER = datetime.max.replace(tzinfo=UTC)
_BY_KEY: dict[str, State] = {state.lower(): state for state in STATES}
_WAYS: dict[State, frozenset[State]] = {
    "Disabled": frozenset({"Disabled", "Unlocked"}),
    "Unlocked": frozenset(STATES),
    "Locked": frozenset({"Locked"}),
}


def asked_in(properties: Mapping[str, Any]) -> Any:
    """``properties.securitySettings.immutabilitySettings.state`` as a client gave it; None when it
    said nothing of it."""
    security = (properties.get("properties") or {}).get("securitySettings") or {}
    return (security.get("immutabilitySettings") or {}).get("state")


def read_state(stored: str) -> State:
    """A stored state. One that is unknown blocks, and can be taken back."""
    return _BY_KEY.get(stored.lower(), "Unlocked") if stored else "Disabled"


def stronger(one: State, other: State) -> State:
    return max(one, other, key=STATES.index)


def is_immutable(state: State) -> bool:
    return state != "Disabled"


def changed(old: State, asked: Any) -> State:
    """The state after a request; None leaves it. As in Azure a vault is unlocked before it is
    locked. UsageError (InvalidRequestContent), ConflictError
    (UserErrorUnsupportedVaultImmutabilityStateChange)."""
    if asked is None:
        return old
    new = _BY_KEY.get(asked.lower()) if isinstance(asked, str) else None
    if new is None:
        raise UsageError(
            f"the state of immutability {str(asked)[:50]!r} is unknown",
            code="InvalidRequestContent",
            hint=f"one of {', '.join(STATES)}",
        )
    if new in _WAYS[old]:
        return new
    if old == "Locked":
        raise ConflictError(
            f"the vault's immutability is locked and cannot become {new}",
            code=STATE_CHANGE,
            hint="nobody can take it back, not even an owner; a new vault may be set otherwise",
        )
    raise ConflictError(
        f"immutability cannot go from {old} to {new} at once: locking cannot be undone",
        code=STATE_CHANGE,
        hint="set it to Unlocked first, see that what it blocks suits you, then lock it",
    )


# what is kept how long


def ranges_of(policy: Policy) -> dict[str, int]:
    """Days by range; of a database policy by backup type and range."""
    own = {str(rule.range): rule.days for rule in policy.rules}
    of_subs = {
        f"{sub.kind.lower()} {rule.range}": rule.days for sub in policy.subs for rule in sub.rules
    }
    return own | of_subs


def reductions(old: Policy, new: Policy) -> list[str]:
    """Ranges that are kept for less time, or no more, in words."""
    before = {sub.kind: sub.rules for sub in old.subs}
    after = {sub.kind: sub.rules for sub in new.subs}
    lost = shortened(old.rules, new.rules)
    for kind, rules in before.items():
        lost += [f"{kind.lower()} {text}" for text in shortened(rules, after.get(kind, ()))]
    return lost


def increases(old: Policy, new: Policy) -> list[str]:
    """Ranges that are kept for longer, or newly."""
    before, after = ranges_of(old), ranges_of(new)
    return [name for name, days in after.items() if days > before.get(name, 0)]


def rules_in(days: Mapping[str, int]) -> tuple[RetentionRule, ...]:
    """Rules by their durations alone, which is all that the points there are go by."""
    return tuple(RetentionRule(name, days[name]) for name in RANGES if name in days)


def end_of(point: PointFacts, rules: Rules | None) -> datetime:
    """Until when a point is to be kept; ``rules`` None: nothing expires."""
    end = expiry_of(point, rules)[0] if rules is not None else None
    return FOREVER if end is None else end


def locked_until(point: PointFacts, rules: Rules) -> datetime | None:
    """Until when a point of an immutable vault is locked by these rules; None when they promise it
    nothing, or no end."""
    end, rule = expiry_of(point, rules)
    return None if end in (None, FOREVER) or rule == NO_RULE else end


def cut_short(points: Iterable[tuple[PointFacts, datetime | None]], rules: Rules) -> int:
    """How many points would end under ``rules`` sooner than they are to; None: nothing was
    promised."""
    return sum(promise is not None and end_of(point, rules) < promise for point, promise in points)


# what is blocked


def check_reduction(lost: Sequence[str], cut: int, what: str) -> None:
    """No shorter retention. ``lost``: of ``reductions``; ``cut``: of ``cut_short``; ``what``: what
    is changed. ConflictError (UserErrorVaultImmutable)."""
    told = list(lost) or ([f"{cut} recovery point(s) would end sooner"] if cut else [])
    if told:
        raise ConflictError(
            f"retention by {what} cannot be reduced ({'; '.join(told)}): the vault is immutable",
            code=BLOCKED,
            hint="keep every range for at least as many days; schedules may change, and protection "
            "may be stopped with its data retained",
        )


def check_increase(more: Sequence[str], suspended: Sequence[str], policy: str) -> None:
    """No longer retention while backups of an item of the policy are suspended. ConflictError
    (UserErrorVaultImmutable)."""
    if more and suspended:
        names = ", ".join(suspended[:5])
        raise ConflictError(
            f"retention by policy {policy} cannot be increased ({', '.join(more)}) while backups "
            f"of {len(suspended)} of its items are suspended ({names}): the vault is immutable",
            code=BLOCKED,
            hint="resume them first, or give the items that run another policy",
        )


def check_delete_data(item: str, ends: Sequence[datetime], now: datetime) -> None:
    """No deletion of data before its time. ``ends``: of the item's points. ConflictError
    (UserErrorVaultImmutable)."""
    held = [end for end in ends if end > now]
    if held:
        last = max(held)
        until = "for ever" if last == FOREVER else f"until {last:%Y-%m-%d %H:%M} UTC"
        raise ConflictError(
            f"the data of {item} cannot be deleted, {len(held)} recovery point(s) have not "
            f"expired and are kept {until}: the vault is immutable",
            code=BLOCKED,
            hint="stop protection and retain the data: holdfast item disable NAME, with "
            "--keep-policy so that its points expire by their policy",
        )


def check_vault_delete(vault: str, points: int) -> None:
    """ConflictError (UserErrorVaultImmutable) when a vault that goes still holds points."""
    if points:
        raise ConflictError(
            f"vault {vault} cannot be deleted, it is immutable and holds {points} recovery "
            "point(s)",
            code=BLOCKED,
            hint="its deleted items go when their period ends; delete the vault after that",
        )


def check_soft_delete(old: SoftDelete, new: SoftDelete) -> None:
    """Deleted data stays for as long as before, or longer. ConflictError
    (UserErrorVaultImmutable)."""
    if (old.keeps and not new.keeps) or (old.keeps and new.days < old.days):
        raise ConflictError(
            f"soft delete of {old.days} days cannot be shortened or turned off: the vault is "
            "immutable",
            code=BLOCKED,
            hint=f"leave it on, for {old.days} days or more",
        )
