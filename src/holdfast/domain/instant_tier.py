"""The instant tier: local copies of a machine's disks, and when each is removed.

A copy shares its image's blocks, so it costs what the guest overwrites since, on the file system
the guest needs to write to. It is there for restores to be quick, and never at the guest's cost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from holdfast.domain.schedule import SEARCH_DAYS, Schedule, slot_day, tagging_slots

KEY = "instantRpRetentionRangeInDays"
DEFAULT_DAYS = {"V1": 2, "V2": 7}  # by policyType, as in Azure
RESERVE_SHARE, RESERVE_MOST = 0.1, 20 << 30  # of a file system, in bytes: left to the guests
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Held:
    """A copy. ``point``: its recovery point in the vault, empty without one; ``job``: the backup it
    was made by; ``standing``: it is whole; ``device``: the file system it is on."""

    token: str
    machine: str
    point: str
    job: str
    taken_at: datetime
    until: datetime
    standing: bool
    device: int


class Space(NamedTuple):
    """Of a file system, in bytes."""

    free: int
    total: int


class Drop(NamedTuple):
    """A copy that is removed, and why."""

    token: str
    why: str


def instant_days(policy: Mapping[str, Any]) -> int:
    """For how many days a policy of machines keeps local copies."""
    told = policy.get(KEY)
    if isinstance(told, int) and not isinstance(told, bool):
        return told
    return DEFAULT_DAYS.get(str(policy.get("policyType") or "V1"), DEFAULT_DAYS["V1"])


def goes_to_vault(
    schedule: Schedule, zone: ZoneInfo, slot: datetime, newest: datetime | None
) -> bool:
    """Whether the run due at ``slot`` sends its point to the vault, where local copies are made: of
    an hourly schedule only a day's last does, and whichever comes next when that failed, as with
    Azure Backup. ``newest``: the time of the newest point in the vault."""
    if schedule.frequency != "Hourly" or newest is None:
        return True
    day = slot_day(slot, zone, schedule)
    if slot in tagging_slots(schedule, day, zone):
        return True
    for back in range(1, SEARCH_DAYS):
        if last := tagging_slots(schedule, day - timedelta(days=back), zone):
            return newest < last[-1]
    return True


def is_short(space: Space) -> bool:
    """Whether a file system has no room for copies: the guests need what is left."""
    return space.free < min(space.total * RESERVE_SHARE, RESERVE_MOST)


def plan_drops(
    held: Sequence[Held], spaces: Mapping[int, Space], now: datetime, busy: Collection[str]
) -> list[Drop]:
    """Which copies go. ``busy``: tokens of backups that run. Where room is short one goes at a
    time, for nobody knows what it frees: the oldest, those that are in the vault before others."""
    rest = [one for one in held if one.token not in busy]
    drops = [Drop(one.token, why) for one in rest if (why := _ended(one, rest, now))]
    gone = {drop.token for drop in drops}
    left = sorted(
        (one for one in rest if one.token not in gone),
        key=lambda one: (not one.point, one.taken_at, one.token),
    )
    for device, space in spaces.items():
        oldest = next((one for one in left if one.device == device), None)
        if oldest is not None and is_short(space):
            why = f"its file system has {space.free / GIB:.1f} GiB left, which guests need"
            drops.append(Drop(oldest.token, why))
    return drops


def _ended(one: Held, every: Sequence[Held], now: datetime) -> str:
    if not one.standing:
        return "an interrupted backup left it unfinished"
    if one.until <= now:
        return f"its time ended at {one.until:%F %T} UTC"
    again = any(
        other.job == one.job and other.standing and other.taken_at > one.taken_at
        for other in every
        if one.job and not one.point
    )
    return "its backup was done again" if again else ""
