"""Plots of a report as inline SVG: no script, no fonts or images from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from html import escape

from holdfast.services.report import DayOfBackups

WIDTH, HEIGHT = 500, 190
WIDE = 1040  # of a plot that fills the page
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 14, 26
MOST_BARS = 12
LEAST_BYTES = 1000  # the height of an axis over next to nothing
BAR, GAP = 22, 8
NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
KINDS = {"good": "completed", "warn": "with warnings", "bad": "failed"}
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: float | None) -> str:
    """Bytes in decimal units, with their sign."""
    if count is None:
        return NOTHING
    amount, unit = abs(float(count)), 0
    while amount >= 1000 and unit < len(UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    text = f"{amount:.0f}" if unit == 0 or amount >= 100 else f"{amount:.1f}"
    return f"{MINUS if count < 0 else ''}{text} {UNITS[unit]}"


def text(x: float, y: float, content: str, *, anchor: str = "start", kind: str = "tick") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )


def round_up(value: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(str(int(value))) - 1)
    steps = (step * power for step in (1, 2, 2.5, 5, 10))
    return next((step for step in steps if step >= value), 10 * power)


def _frame(inner: str, label: str, width: int = WIDTH, height: float = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(label)}">'
        f"{inner}</svg>"
    )


def _grid(top: float, shown: Sequence[str]) -> str:
    """Horizontal lines at equal steps, the lowest first, with their values."""
    lines = []
    for number, label in enumerate(shown):
        y = HEIGHT - BOTTOM - number * (HEIGHT - BOTTOM - top) / (len(shown) - 1)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(text(LEFT - 8, y + 4, label, anchor="end"))
    return f'<g class="grid">{"".join(lines)}</g>'


def growth_plot(history: Sequence[tuple[date, int]]) -> str:
    """Stored bytes over time."""
    most = round_up(max(LEAST_BYTES, *(stored for _, stored in history)))
    first, last = history[0][0], history[-1][0]
    days = max(1, (last - first).days)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    places = [
        (LEFT + wide * (day - first).days / days, TOP + high * (1 - stored / most))
        for day, stored in history
    ]
    if len(places) == 1:
        places = [places[0], (float(WIDTH - RIGHT), places[0][1])]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    floor = HEIGHT - BOTTOM
    area = f"{places[0][0]:.1f},{floor} {line} {places[-1][0]:.1f},{floor}"
    x, y = places[-1]
    inner = (
        _grid(TOP, [size(most * part / 4) for part in range(5)])
        + f'<polygon class="area" points="{area}"/><polyline class="line" points="{line}"/>'
        + f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        + text(LEFT, HEIGHT - 8, f"{first:%-d %b}")
        + text(WIDTH - RIGHT, HEIGHT - 8, f"{last:%-d %b}", anchor="end")
    )
    return _frame(inner, "Bytes stored over time")


def days_plot(days: Sequence[DayOfBackups]) -> str:
    """Backups per day, by how they ended."""
    most = 4 * max(1, -(-max(one.completed + one.warned + one.failed for one in days) // 4))
    wide, high = (WIDTH - LEFT - RIGHT) / len(days), HEIGHT - TOP - BOTTOM
    bars = []
    for number, one in enumerate(days):
        y = float(HEIGHT - BOTTOM)
        for kind, count in (("good", one.completed), ("warn", one.warned), ("bad", one.failed)):
            if count:
                y -= high * count / most
                bars.append(
                    f'<rect class="{kind}" x="{LEFT + wide * number + 2:.1f}" y="{y:.1f}" '
                    f'width="{wide - 4:.1f}" height="{high * count / most:.1f}" rx="1.5">'
                    f"<title>{one.day:%-d %b}: {count} {KINDS[kind]}</title></rect>"
                )
    ticks = [str(most * part // 4) for part in range(5)]
    inner = (
        _grid(TOP, ticks)
        + "".join(bars)
        + text(LEFT, HEIGHT - 8, f"{days[0].day:%-d %b}")
        + text(WIDTH - RIGHT, HEIGHT - 8, f"{days[-1].day:%-d %b}", anchor="end")
    )
    return _frame(inner, "Backups per day")


def storage_plot(rows: Sequence[tuple[str, int]]) -> str:
    """Bytes by item, largest first; the small ones together."""
    ordered = sorted(rows, key=lambda row: row[1], reverse=True)
    shown = ordered[:MOST_BARS]
    if rest := ordered[MOST_BARS:]:
        shown = [*shown, (f"{len(rest)} more", sum(stored for _, stored in rest))]
    most = max([stored for _, stored in shown] or [0]) or 1
    label, value = 190, 80
    bars = []
    for number, (name, stored) in enumerate(shown):
        y = number * (BAR + GAP) + GAP
        wide = max(2.0, (WIDE - label - value) * stored / most)
        bars.append(text(label - 10, y + 15, _short(name), anchor="end", kind="name"))
        bars.append(
            f'<rect class="bar" x="{label}" y="{y}" width="{wide:.1f}" height="{BAR}" rx="3">'
            f"<title>{escape(name)}: {size(stored)}</title></rect>"
        )
        bars.append(text(label + wide + 8, y + 15, size(stored), kind="value"))
    height = len(shown) * (BAR + GAP) + GAP
    return _frame("".join(bars), "Storage by item", WIDE, height)


def _short(name: str, most: int = 26) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
