"""The schedule part of an ARM policy.

Virtual machines and shares run at one time a day, agents' policies at up to three and, if wished,
every second to fourth week: the date of the first run time then names a week that runs. Hourly
schedules fill a window: start + k * interval up to and including the window's end.
"""

from __future__ import annotations

from datetime import date, time

from holdfast.domain.policy_reading import (
    Properties,
    clock_time,
    clock_times,
    integer,
    one_of,
    part,
    refuse,
    weekdays,
)
from holdfast.domain.schedule import MOST_WEEKS, Frequency, Schedule

SIMPLE, ENHANCED = "SimpleSchedulePolicy", "SimpleSchedulePolicyV2"
FREQUENCIES: tuple[Frequency, ...] = ("Daily", "Weekly", "Hourly")
MOST_TIMES = {"MAB": 3}
VM_INTERVALS, SHARE_INTERVALS = (4, 6, 8, 12, 24), (4, 6, 8, 12)
SHARE_LAST_START, SHARE_LAST_END = 19 * 60 + 30, 23 * 60 + 30
DAY = 24 * 60


def read_schedule(policy: Properties, kind: str) -> Schedule:
    """The schedule of a ``schedulePolicy`` object. ``kind``: backupManagementType."""
    allowed = (SIMPLE, ENHANCED) if kind == "AzureIaasVM" else (SIMPLE,)
    form = one_of(policy.get("schedulePolicyType") or SIMPLE, "schedulePolicyType", allowed)
    frequency = one_of(policy.get("scheduleRunFrequency"), "scheduleRunFrequency", FREQUENCIES)
    if frequency == "Hourly":
        return _hourly(policy, kind, form)
    if form == ENHANCED:
        policy = part(policy, f"{frequency.lower()}Schedule")
    every = _every_weeks(policy, kind, frequency)
    times = clock_times(policy.get("scheduleRunTimes"), "scheduleRunTimes", MOST_TIMES.get(kind, 1))
    if frequency == "Daily":
        return Schedule("Daily", times)
    days = weekdays(policy.get("scheduleRunDays"), "scheduleRunDays")
    if every == 1:
        return Schedule("Weekly", times, days)
    return Schedule("Weekly", times, days, every, _anchor(policy["scheduleRunTimes"][0]))


def _every_weeks(policy: Properties, kind: str, frequency: Frequency) -> int:
    """Every how many weeks: more than one only for agents."""
    every = policy.get("scheduleWeeklyFrequency")
    if every is None:
        return 1
    most = MOST_WEEKS if kind == "MAB" and frequency == "Weekly" else 1
    return max(1, integer(every, "scheduleWeeklyFrequency", 0, most))


def _anchor(first_time: str) -> date:
    """The date in a run time that was read before."""
    return date.fromisoformat(first_time[:10])


def _hourly(policy: Properties, kind: str, form: str) -> Schedule:
    if kind == "MAB" or (kind == "AzureIaasVM" and form != ENHANCED):
        raise refuse(
            "an hourly schedule does not fit this policy",
            f"folders and machines run hourly under backupManagementType AzureIaasVM with "
            f"schedulePolicyType {ENHANCED} (see EnhancedPolicy); MAB is daily or weekly",
        )
    hourly = part(policy, "hourlySchedule")
    intervals = VM_INTERVALS if kind == "AzureIaasVM" else SHARE_INTERVALS
    interval = one_of(hourly.get("interval"), "interval", intervals)
    window = hourly.get("scheduleWindowDuration")
    length = integer(window, "scheduleWindowDuration", 4, 24 if kind == "AzureIaasVM" else 23)
    start = clock_time(hourly.get("scheduleWindowStartTime"), "scheduleWindowStartTime")
    return Schedule("Hourly", _window(kind, start, interval, length))


def _window(kind: str, start: time, interval: int, length: int) -> tuple[time, ...]:
    """The times of a window; one of 24 hours goes round the clock."""
    if interval > length:
        raise refuse(
            "the window is shorter than the interval: it would trigger only 1 backup per day",
            "make scheduleWindowDuration at least the interval",
        )
    first = start.hour * 60 + start.minute
    last = first + length * 60
    if length == 24:
        minutes = range(first, last, interval * 60)
    else:
        limit = DAY
        if kind == "AzureStorage":
            limit = SHARE_LAST_END if first <= SHARE_LAST_START else -1
        if last > limit:
            raise refuse(
                "the window extends to the next day",
                "start earlier or shorten it (a share's window starts by 19:30 and ends by 23:30)",
            )
        minutes = range(first, last + 1, interval * 60)
    return tuple(sorted(time(one % DAY // 60, one % 60) for one in minutes))
