"""Speeds as people type and read them."""

from __future__ import annotations

import re
from typing import Any

import click

from holdfast.cli.show import size
from holdfast.domain.schedule import WEEKDAYS

_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?(?:/s)?", re.IGNORECASE)
_STEPS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Rate(click.ParamType[int]):
    """``20MB``, ``1.5MiB/s``, ``500k`` or bytes per second; 0 or ``none`` is no limit."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if str(value).strip().lower() == "none":
            return 0
        found = _FORM.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no speed: give e.g. 20MB, or none", param, ctx)
        number, unit, binary = found.groups()
        step = _STEPS[unit.lower()]
        return round(float(number) * float(1024 if binary else 1000) ** step)


_HOURS = re.compile(
    r"(?P<days>[a-z]+(?:[-,][a-z]+)*)\s+(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)"
    r"(?:\s+(?P<zone>[A-Za-z][\w/+-]+))?\s+(?P<rate>\S+)",
    re.IGNORECASE,
)


class Hours(click.ParamType[Any]):
    """``Mon-Fri 09:00-18:00 Europe/Berlin 2MB``: days, times, a zone (UTC when left out) and the
    speed meanwhile; ``none`` for no work hours (an empty object)."""

    name = "hours"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if value.strip().lower() == "none":
            return {}
        found = _HOURS.fullmatch(value.strip())
        if found is None:
            self.fail(
                f"{value!r} are no work hours: give e.g. 'Mon-Fri 09:00-18:00 Europe/Berlin 2MB'",
                param,
                ctx,
            )
        return {
            "days": self._days(found["days"], param, ctx),
            "start": found["start"],
            "end": found["end"],
            "timeZone": found["zone"] or "UTC",
            "throttleBytesPerSecond": Rate().convert(found["rate"], param, ctx),
        }

    def _days(
        self, text: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """``Mon-Fri,Sun`` as names; a range may go past Sunday."""
        chosen: set[int] = set()
        for part in text.split(","):
            first, _, last = part.partition("-")
            start, end = (self._day(one, param, ctx) for one in (first, last or first))
            chosen |= {(start + step) % 7 for step in range((end - start) % 7 + 1)}
        return [WEEKDAYS[number] for number in sorted(chosen)]

    def _day(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        for number, name in enumerate(WEEKDAYS):
            if len(text) >= 2 and name.lower().startswith(text.lower()):
                return number
        self.fail(f"{text!r} is no day of the week", param, ctx)


def hours_text(hours: dict[str, Any] | None) -> str:
    if not hours:
        return "none"
    days = ", ".join(day[:3] for day in hours["days"])
    rate = rate_text(hours.get("throttleBytesPerSecond"))
    return f"{days} {hours['start']}-{hours['end']} {hours['timeZone']}: {rate}"


def rate_text(rate: int | None) -> str:
    return f"{size(rate)}/s" if rate else "none"
