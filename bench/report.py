"""The benchmark's table (Markdown, JSON) and plot."""

from __future__ import annotations

import datetime
import json
import statistics
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
            middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            against = ""
            if who != OURS:
                values = ratios(results, step, who, "wall")
                spread = ", ".join(f"{value:.2f}" for value in values)
                against = f"**{statistics.median(values):.2f}** ({spread})"
            lines.append(
                f"| {step} | {who} | {middle['wall']:.2f} | {middle['cpu']:.2f} "
                f"| {middle['rss'] / 1e6:.0f} | {middle['stored'] / 1e6:,.0f} | {against} |"
            )
    return lines


def _goals(results: Results, steps: tuple[str, ...]) -> list[str]:
    first, unchanged, _, restore = steps

    def middle(step: str, other: str, field: str = "wall") -> float:
        return statistics.median(ratios(results, step, other, field))

    peak = max(row["rss"] for by in results.values() for row in by[OURS]) / 1e6
    rows = [
        ("first backup / restic", middle(first, "restic"), 0.35),
        ("first backup / tar, zstd", middle(first, "tar | zstd -3 -T0"), 0.9),
        ("full restore / restic", middle(restore, "restic"), 0.6),
        ("stored bytes / restic", middle(first, "restic", "stored"), 1.05),
        ("unchanged / restic (aim)", middle(unchanged, "restic"), 0.25),
        ("peak RSS MB (server, agent, command)", peak, 600.0),
    ]
    lines = ["| goal | measured | limit | met |", "|---|---:|---:|---|"]
    for name, value, limit in rows:
        lines.append(f"| {name} | {value:.2f} | {limit} | {'yes' if value <= limit else 'no'} |")
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


def write_report(
    folder: Path,
    steps: tuple[str, ...],
    results: Results,
    checks: dict[str, bool],
    facts: dict[str, str],
) -> None:
    """Write files.md, files.json and files.png into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    lines = [
        "# Files benchmark",
        "",
        f"{today}, {facts['cores']} cores, {facts['files']} files / {facts['bytes']} bytes, "
        f"{len(next(iter(results[steps[0]].values())))} rounds, interleaved, warm cache.",
        "",
        *_table(results, steps),
        "",
        "## Goals",
        "",
        *_goals(results, steps),
        "",
        "## Checks",
        "",
        *(f"- {name}: {'yes' if held else 'NO'}" for name, held in checks.items()),
        "",
        "## Versions",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        "![seconds per step](files.png)",
        "",
    ]
    (folder / "files.md").write_text("\n".join(lines))
    body = {"date": today, "facts": facts, "checks": checks, "results": results}
    (folder / "files.json").write_text(json.dumps(body, indent=2) + "\n")
    _plot(folder / "files.png", steps, results)
