"""Speeds as people type and read them."""

from __future__ import annotations

import re
from typing import Any

import click

from holdfast.cli.show import size

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


def rate_text(rate: int | None) -> str:
    return f"{size(rate)}/s" if rate else "none"
