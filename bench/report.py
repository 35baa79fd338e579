"""A benchmark's table (Markdown, JSON) and plot."""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Results = dict[str, dict[str, list[dict[str, float]]]]
OURS = "holdfast"
PLOTS_ACROSS = 4


def ratios(results: Results, step: str, other: str, field: str) -> list[float]:
    """Ours divided by the other's, round by round. Rows say their ``round``, or are one a round."""
    theirs = _by_round(results[step].get(other, []))
    ours = _by_round(results[step].get(OURS, []))
    return [row[field] / theirs[number][field] for number, row in ours.items()
            if theirs.get(number, {}).get(field)]  # fmt: skip


def _by_round(rows: list[dict[str, float]]) -> dict[float, dict[str, float]]:
    return {row.get("round", number): row for number, row in enumerate(rows)}


def table(results: Results, steps: tuple[str, ...]) -> list[str]:
    """A line for each step and tool; with the bytes sent where rows have them."""
    sent = any("sent" in row for by in results.values() for rows in by.values() for row in rows)
    more = " sent MB |" if sent else ""
    lines = [
        "| step | tool | wall s (median) | CPU s | peak RSS MB | stored MB "
        f"|{more} holdfast / tool |",
        f"|---|---|---:|---:|---:|---:|{'---:|' if sent else ''}---|",
    ]
    for step in steps:
        for who, rows in results.get(step, {}).items():
            medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            told = f" {medians['sent'] / 1e6:,.1f} |" if "sent" in medians else more and " |"
            name = who.replace("|", "\\|")
            lines.append(
                f"| {step} | {name} | {medians['wall']:.2f} | {medians['cpu']:.2f} "
                f"| {medians['rss'] / 1e6:.0f} | {medians['stored'] / 1e6:,.0f} |{told} "
                f"{_against(results, step, who)} |"
            )
    return lines


def _against(results: Results, step: str, who: str) -> str:
    """The median of the ratios, and all of them."""
    values = [] if who == OURS else ratios(results, step, who, "wall")
    if not values:
        return ""
    spread = ", ".join(f"{value:.2f}" for value in values)
    return f"**{statistics.median(values):.2f}** ({spread})"


def plot(path: Path, steps: tuple[str, ...], results: Results) -> None:
    """A panel of bars for each step; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    across = min(len(steps), PLOTS_ACROSS)
    down = -(-len(steps) // across)
    figure, axes = pyplot.subplots(down, across, squeeze=False, figsize=(3.6 * across, 3.4 * down))
    for axis, step in zip(axes.flat, steps, strict=False):
        names = list(results[step])
        values = [statistics.median(row["wall"] for row in results[step][who]) for who in names]
        colours = ["#1b7f5c" if who == OURS else "#9aa5b1" for who in names]
        axis.barh(names, values, color=colours)
        axis.invert_yaxis()
        axis.set_title(step, fontsize=10)
        axis.set_xlabel("seconds (median)", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        for row, value in enumerate(values):
            axis.text(value, row, f" {value:.1f}", va="center", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def files_goals(results: Results, steps: tuple[str, ...]) -> list[str]:
    """The goals of the files benchmark, against what was measured."""
    first, unchanged, _, restore = steps
    wanted = [
        ("first backup / restic", first, "restic", "wall", 0.35),
        ("first backup / tar, zstd", first, "tar | zstd -3 -T0", "wall", 0.9),
        ("full restore / restic", restore, "restic", "wall", 0.6),
        ("stored bytes / restic", first, "restic", "stored", 1.05),
        ("unchanged / restic (aim)", unchanged, "restic", "wall", 0.25),
    ]
    rows = [
        (name, middle(results, step, other, field), limit)
        for name, step, other, field, limit in wanted
        if other in results[step]
    ]
    peak = max(row["rss"] for by in results.values() for row in by[OURS]) / 1e6
    rows.append(("peak RSS MB (server, agent, command)", peak, 600.0))
    return goals_table(rows)


def goals_table(rows: Sequence[tuple[str, float | None, float]]) -> list[str]:
    """(goal, measured or None, the most it may be) as lines."""
    lines = ["| goal | measured | limit | met |", "|---|---:|---:|---|"]
    for name, value, limit in rows:
        told = "not measured" if value is None else f"{value:.2f}"
        met = "" if value is None else ("yes" if value <= limit else "no")
        lines.append(f"| {name} | {told} | {limit:g} | {met} |")
    return lines


def middle(results: Results, step: str, other: str, field: str = "wall") -> float:
    """The median of the ratios of the rounds."""
    return statistics.median(ratios(results, step, other, field))


@dataclass(frozen=True, slots=True)
class Report:
    """``name`` of the files; ``subject``: what was measured, in a line's words."""

    name: str
    title: str
    subject: str
    steps: tuple[str, ...]
    goals: list[str]


def today_text() -> str:
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()


def checks_and_versions(checks: Mapping[str, bool], facts: Mapping[str, str]) -> list[str]:
    """The end of a report."""
    return [
        "## Checks",
        "",
        *(f"- {name}: {'yes' if held else 'NO'}" for name, held in checks.items()),
        "",
        "## Versions",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
    ]


def write_files(folder: Path, name: str, lines: Sequence[str], body: object) -> None:
    """NAME.md and NAME.json in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(lines))
    (folder / f"{name}.json").write_text(json.dumps(body, indent=2) + "\n")


def write_report(
    folder: Path,
    report: Report,
    results: Results,
    checks: dict[str, bool],
    facts: dict[str, str],
) -> None:
    """Write NAME.md, NAME.json and NAME.png into ``folder``."""
    today = today_text()
    rounds = len(next(iter(results[report.steps[0]].values())))
    lines = [
        f"# {report.title}",
        "",
        f"{today}, {facts['cores']} cores, {report.subject}, "
        f"{rounds} rounds, interleaved, warm cache.",
        "",
        *table(results, report.steps),
        "",
        "## Goals",
        "",
        *report.goals,
        "",
        *checks_and_versions(checks, facts),
        f"![seconds per step]({report.name}.png)",
        "",
    ]
    body = {"date": today, "facts": facts, "checks": checks, "results": results}
    write_files(folder, report.name, lines, body)
    plot(folder / f"{report.name}.png", report.steps, results)
