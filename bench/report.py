"""A benchmark's table (Markdown, JSON) and plot."""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Results = dict[str, dict[str, list[dict[str, float]]]]
OURS = "holdfast"


def ratios(results: Results, step: str, other: str, field: str) -> list[float]:
    """Ours divided by the other's, round by round."""
    rows = zip(results[step][OURS], results[step][other], strict=True)
    return [ours[field] / theirs[field] for ours, theirs in rows if theirs[field]]


def _table(results: Results, steps: tuple[str, ...]) -> list[str]:
    lines = [
        "| step | tool | wall s (median) | CPU s | peak RSS MB | stored MB | holdfast / tool |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for step in steps:
        for who, rows in results[step].items():
            medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            against = ""
            if who != OURS:
                values = ratios(results, step, who, "wall")
                spread = ", ".join(f"{value:.2f}" for value in values)
                against = f"**{statistics.median(values):.2f}** ({spread})"
            lines.append(
                f"| {step} | {who} | {medians['wall']:.2f} | {medians['cpu']:.2f} "
                f"| {medians['rss'] / 1e6:.0f} | {medians['stored'] / 1e6:,.0f} | {against} |"
            )
    return lines


def _plot(path: Path, steps: tuple[str, ...], results: Results) -> None:
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(steps), figsize=(3.6 * len(steps), 3.4))
    for axis, step in zip(axes, steps, strict=True):
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


def write_report(
    folder: Path,
    report: Report,
    results: Results,
    checks: dict[str, bool],
    facts: dict[str, str],
) -> None:
    """Write NAME.md, NAME.json and NAME.png into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    rounds = len(next(iter(results[report.steps[0]].values())))
    lines = [
        f"# {report.title}",
        "",
        f"{today}, {facts['cores']} cores, {report.subject}, "
        f"{rounds} rounds, interleaved, warm cache.",
        "",
        *_table(results, report.steps),
        "",
        "## Goals",
        "",
        *report.goals,
        "",
        "## Checks",
        "",
        *(f"- {name}: {'yes' if held else 'NO'}" for name, held in checks.items()),
        "",
        "## Versions",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        f"![seconds per step]({report.name}.png)",
        "",
    ]
    (folder / f"{report.name}.md").write_text("\n".join(lines))
    body = {"date": today, "facts": facts, "checks": checks, "results": results}
    (folder / f"{report.name}.json").write_text(json.dumps(body, indent=2) + "\n")
    _plot(folder / f"{report.name}.png", report.steps, results)
