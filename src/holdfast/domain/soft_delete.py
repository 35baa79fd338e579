"""Soft delete: what a vault is set to, and how long deleted data is kept.

States and ranges are Azure's: Enabled, Disabled, or AlwaysON, which is never left; 14 to 180 days.
What was deleted keeps the period that was set at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from holdfast.errors import ConflictError, UsageError

State = Literal["Enabled", "Disabled", "AlwaysON"]
STATES: tuple[State, ...] = ("Enabled", "Disabled", "AlwaysON")
LEAST_DAYS, MOST_DAYS = 14, 180
UPCOMING = timedelta(days=2)
NOT_ALWAYS_ON = "BMSUserErrorSoftDeleteStateNotSetToAlwaysON"
_BY_KEY: dict[str, State] = {state.lower(): state for state in STATES}


@dataclass(frozen=True, slots=True)
class SoftDelete:
    """A vault's setting. ``enhanced`` is what a client said of Azure's "enhanced security", kept
    for it and without effect."""

    state: State = "Enabled"
    days: int = LEAST_DAYS
    enhanced: State = "Enabled"

    @property
    def keeps(self) -> bool:
        """Whether deleted data is kept for a while."""
        return self.state != "Disabled"


def read_settings(stored: Mapping[str, Any]) -> SoftDelete:
    """From a vault's stored ``softDeleteSettings``; what is missing or unreadable is the default,
    which keeps data."""
    days: Any = stored.get("softDeleteRetentionPeriodInDays")
    found = SoftDelete(
        _BY_KEY.get(str(stored.get("softDeleteState")).lower(), "Enabled"),
        int(days) if _in_range(days) else LEAST_DAYS,
    )
    otherwise = found.state
    enhanced = _BY_KEY.get(str(stored.get("enhancedSecurityState")).lower(), otherwise)
    return replace(found, enhanced=enhanced)


def settings_of(properties: Mapping[str, Any]) -> SoftDelete:
    """From what is stored of a vault: ``properties.securitySettings.softDeleteSettings``."""
    return read_settings(stored_in(properties))


def stored_in(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """``softDeleteSettings`` as a client gave them, or nothing."""
    security = (properties.get("properties") or {}).get("securitySettings") or {}
    return security.get("softDeleteSettings") or {}


def written(settings: SoftDelete) -> dict[str, Any]:
    """``softDeleteSettings`` as ARM has them."""
    return {
        "softDeleteState": settings.state,
        "softDeleteRetentionPeriodInDays": settings.days,
        "enhancedSecurityState": settings.enhanced,
    }


def changed(old: SoftDelete, state: Any, days: Any, enhanced: Any) -> SoftDelete:
    """The setting after a request; None leaves a value as it is. UsageError
    (InvalidRequestContent, BMSUserErrorInvalidInput), ConflictError
    (BMSUserErrorSoftDeleteStateNotSetToAlwaysON)."""
    new = replace(
        old,
        state=old.state if state is None else _state(state, "the soft delete state"),
        enhanced=_enhanced(old, enhanced),
    )
    if old.state == "AlwaysON" and new.state != "AlwaysON":
        raise ConflictError(
            f"soft delete of this vault is always on and cannot become {new.state}",
            code=NOT_ALWAYS_ON,
            hint="nobody can turn it off; a new vault may be set otherwise",
        )
    if days is None or (days == 0 and not new.keeps):
        return new
    if not _in_range(days):
        raise UsageError(
            f"softDeleteRetentionPeriodInDays {str(days)[:50]} is not from {LEAST_DAYS} to "
            f"{MOST_DAYS}",
            code="BMSUserErrorInvalidInput",
            hint=f"give {LEAST_DAYS} to {MOST_DAYS} days",
        )
    return replace(new, days=days)


def _state(given: Any, what: str) -> State:
    found = _BY_KEY.get(given.lower()) if isinstance(given, str) else None
    if found is None:
        raise UsageError(
            f"{what} {str(given)[:50]!r} is unknown",
            code="InvalidRequestContent",
            hint=f"one of {', '.join(STATES)}",
        )
    return found


def _enhanced(old: SoftDelete, given: Any) -> State:
    """As the state, it is never left when it is always on; here silently, for it has no effect and
    clients send "Enabled" of every vault that has it."""
    wanted = old.enhanced if given is None else _state(given, "enhancedSecurityState")
    return "AlwaysON" if old.enhanced == "AlwaysON" else wanted


def _in_range(days: Any) -> bool:
    whole = isinstance(days, int) and not isinstance(days, bool)
    return whole and LEAST_DAYS <= days <= MOST_DAYS


def purge_time(deleted_at: datetime, days: int, newest: datetime | None = None) -> datetime:
    """When data deleted at ``deleted_at`` goes for good. ``newest``: its newest recovery point; a
    clock that lagged behind it must not shorten the period."""
    begin = deleted_at if newest is None else max(deleted_at, newest)
    try:
        return begin + timedelta(days=days)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def is_due(purge_at: datetime | None, now: datetime) -> bool:
    """Whether deleted data may go for good. What was not deleted never is."""
    return purge_at is not None and purge_at <= now


def is_over(
    deleted_at: datetime | None, purge_at: datetime | None, seen_days: int, now: datetime
) -> bool:
    """Whether a period has ended by the clock and by the days that were counted in it, which a leap
    of the clock does not make more."""
    if deleted_at is None or purge_at is None or not is_due(purge_at, now):
        return False
    return seen_days >= (purge_at - deleted_at).days


def is_upcoming(purge_at: datetime, now: datetime) -> bool:
    """Whether it goes within two days."""
    return purge_at - now <= UPCOMING


def remaining_text(purge_at: datetime, now: datetime) -> str:
    """The time that is left as Azure writes it: ``13.23:59:42.8600000``."""
    left = max(purge_at - now, timedelta(0))
    minutes, seconds = divmod(left.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{left.days}.{hours:02}:{minutes:02}:{seconds:02}.{left.microseconds:06}0"
