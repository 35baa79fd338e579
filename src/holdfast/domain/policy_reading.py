"""Reading the parts of an ARM policy: every value is checked, whatever its type, before it is used.

All refusals are UsageError; nothing of a refused policy is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from typing import Any

from holdfast.domain.schedule import WEEKDAYS
from holdfast.errors import UsageError

Properties = Mapping[str, Any]
DEPTH = 24
CODE = "UserErrorInvalidPolicyInput"
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:Z|[+-]00:00)?", re.ASCII
)


def refuse(message: str, hint: str = "", code: str = CODE) -> UsageError:
    return UsageError(message, code=code, hint=hint or "correct the policy and send it again")


def part(holder: Properties, key: str) -> Properties:
    """The object under ``key``."""
    found = holder.get(key)
    if not isinstance(found, Mapping):
        raise refuse(f"{key} is missing", f"give {key} as an object")
    return found


def check_kinds_named(properties: Properties) -> None:
    """What is written down from now on says of which kind its schedules and retentions are, as
    Azure requires it; policies kept from before need not. ``properties`` are known to be right."""
    vaulted = properties.get("vaultRetentionPolicy") or {}
    for holder in (properties, vaulted, *(properties.get("subProtectionPolicy") or ())):
        for name, kind in _KINDS.items():
            if isinstance(holder.get(name), Mapping) and not holder[name].get(kind):
                raise refuse(f"{kind} is missing", f"say in {name} which kind it is of")
    kind = properties["backupManagementType"]
    if kind == "AzureWorkload":
        one_of(properties.get("workLoadType"), "workLoadType", DATABASES)
    if kind == "AzureStorage":
        one_of(properties.get("workLoadType"), "workLoadType", (None, "AzureFileShare"))
    if kind == "AzureIaasVM":
        of = properties["schedulePolicy"]["schedulePolicyType"]
        named = "V2" if of.endswith("V2") else "V1"
        if properties.get("policyType") != named:
            raise refuse(f"policyType does not fit the {of}", f"make it {named} or leave it out")
    settings = optional_part(properties, "settings") or {}
    for name in ("isCompression", "issqlcompression"):
        if not isinstance(settings.get(name, False), bool | None):
            raise refuse(f"settings.{name} is no boolean", f"give {name} as true or false")


_KINDS = {
    "schedulePolicy": "schedulePolicyType",
    "retentionPolicy": "retentionPolicyType",
    "vaultRetention": "retentionPolicyType",
}
DATABASES = ("SQLDataBase", "SAPHanaDatabase", "SAPHanaDBInstance", "SAPAseDatabase")


def optional_part(holder: Properties, key: str) -> Properties | None:
    return part(holder, key) if holder.get(key) is not None else None


def integer(value: Any, what: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise refuse(f"{what} of {value!r} is out of range", f"{what} is {low} to {high}")
    return value


def one_of(value: Any, what: str, allowed: Sequence[Any]) -> Any:
    if isinstance(value, bool) or value not in allowed:
        shown = ", ".join(map(str, allowed))
        raise refuse(f"{what} {value!r} is not supported", f"{what} is one of {shown}")
    return value


def listed(value: Any, what: str) -> list[Any]:
    """A list that is not empty."""
    if not isinstance(value, list | tuple) or not value:
        raise refuse(f"{what} is missing", f"give {what} as a list that is not empty")
    return list(value)


def members(value: Any, what: str, allowed: Sequence[str]) -> frozenset[int]:
    """Positions in ``allowed`` of the names listed."""
    return frozenset(allowed.index(one_of(one, what, allowed)) for one in listed(value, what))


def weekdays(value: Any, what: str) -> frozenset[int]:
    """0 = Monday."""
    return members(value, what, WEEKDAYS)


def clock_time(value: Any, what: str) -> time:
    """The wall-clock time of ``2026-01-01T10:30:00Z``; date and zone are not looked at."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    try:
        found = datetime.fromisoformat(match.group(1)).time() if match else None
    except ValueError:
        found = None
    if match is None or found is None:
        raise refuse(f"{what} {value!r} is no time", "give times as 2026-01-01T10:00:00Z")
    if found.minute % 30 or found.second or int(match.group(2) or 0):
        raise refuse(
            f"{what} {value} is not on a half hour",
            "times are on the hour or half hour: 10:00 or 10:30",
            code="InvalidScheduleTimeInSchedule",
        )
    return found


def clock_times(value: Any, what: str, most: int) -> tuple[time, ...]:
    """One to ``most`` different times, sorted."""
    given = listed(value, what)
    found = sorted({clock_time(one, what) for one in given})
    if len(given) > most or len(found) != len(given):
        word = "exactly one time" if most == 1 else f"1 to {most} different times"
        raise refuse(f"{what} has {len(given)} times", f"give {word}")
    return tuple(found)


def tidy(value: Any, depth: int = DEPTH) -> Any:
    """The value without nulls, times written YYYY-MM-DDTHH:MM:SSZ; unknown keys stay."""
    if depth == 0:
        raise refuse("the policy is nested too deeply")
    if isinstance(value, Mapping):
        kept = {key: inner for key, inner in value.items() if inner is not None}
        return {key: tidy(inner, depth - 1) for key, inner in kept.items()}
    if isinstance(value, list | tuple):
        return [tidy(inner, depth - 1) for inner in value if inner is not None]
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    return value if match is None or int(match.group(2) or 0) else match.group(1) + "Z"
