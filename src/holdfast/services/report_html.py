"""A report as one HTML page that needs nothing else: styles and plots inside, no script.

Every name is escaped, and the page forbids itself scripts and anything from the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from holdfast.domain.alerts import RULES
from holdfast.domain.lifecycle import SOFT_DELETED, backups_run
from holdfast.services.report import ItemReport, VaultReport
from holdfast.services.report_plots import (
    KINDS,
    NOTHING,
    days_plot,
    growth_plot,
    size,
    storage_plot,
)

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root{--ink:#16202c;--soft:#5b6b7d;--line:#e3e9ef;--page:#f5f7fa;--card:#fff;--blue:#2867c9;
--good:#2f9e6e;--warn:#e0a021;--bad:#d2443d}
@media(prefers-color-scheme:dark){:root{--ink:#e7edf4;--soft:#93a3b5;--line:#2a3542;--page:#10161d;
--card:#18212b;--blue:#6aa2f5;--good:#4cc592;--warn:#ecb74b;--bad:#ef6f68}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:36px 24px 56px}
h1{font-size:28px;line-height:1.2;margin:0}h2{font-size:16px;margin:0 0 12px}
.under{color:var(--soft);margin:6px 0 28px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(118px,1fr));gap:14px;
margin-bottom:14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px;
margin-bottom:14px;overflow-x:auto}
.tiles .card{margin:0;padding:14px 18px}
.tile b{display:block;font-size:22px;line-height:1.3;font-weight:650;white-space:nowrap;
font-variant-numeric:tabular-nums}
.tile span,.note{color:var(--soft);font-size:13px}.tile b.bad{color:var(--bad)}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:14px;
margin-bottom:14px}
.two .card{margin:0}p.note,p.key{margin:10px 0 0}
table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;font-weight:600;color:var(--soft);font-size:12.5px;padding:6px 12px 8px 0;
border-bottom:1px solid var(--line);white-space:nowrap}
td{padding:9px 12px 9px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td small{display:block;color:var(--soft)}
td.name{overflow-wrap:anywhere;min-width:130px}
.pill{display:inline-block;border-radius:99px;padding:1px 9px;font-size:12.5px;font-weight:600;
white-space:nowrap;border:1px solid currentColor}
.pill.good{color:var(--good)}.pill.warn{color:var(--warn)}.pill.bad{color:var(--bad)}
.pill.off{color:var(--soft)}
.meter{width:84px;height:6px;border-radius:3px;background:var(--line);margin:5px 0 0 auto}
.meter i{display:block;height:6px;border-radius:3px;background:var(--good)}
.meter i.warn{background:var(--warn)}.meter i.bad{background:var(--bad)}
svg{width:100%;height:auto;display:block}.wide svg{min-width:640px}
.grid line{stroke:var(--line)}.tick,.value{fill:var(--soft);font-size:11.5px}
svg .name{fill:var(--ink);font-size:12.5px}.area{fill:var(--blue);opacity:.14}
.line{fill:none;stroke:var(--blue);stroke-width:2}.dot,.bar{fill:var(--blue)}
rect.good{fill:var(--good)}rect.warn{fill:var(--warn)}rect.bad{fill:var(--bad)}
.key span{margin-right:16px;color:var(--soft);font-size:13px}
.key i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}
i.good{background:var(--good)}i.warn{background:var(--warn)}i.bad{background:var(--bad)}
@media print{body{background:#fff}tr,.tile,.plot{break-inside:avoid}}
"""
PILLS = {"Healthy": "good", "Overdue": "warn", "Failed": "bad"}
KEY = tuple(KINDS.items())
STATES = {
    "ProtectionStopped": "Stopped",
    "BackupsSuspended": "Suspended",
    SOFT_DELETED: "Deleted",
    "IRPending": "No point yet",
}
STATUS = {"CompletedWithWarnings": "with warnings", "Failed": "failed"}
MOST_ROWS = 1000


def html_of(report: VaultReport) -> str:
    title = escape(f"{report.vault}: backup report")
    body = "".join(
        (
            f"<h1>{escape(report.vault)}</h1>",
            f'<p class="under">Backup report of {escape(report.group)}/{escape(report.vault)}, '
            f"{escape(report.location)} · {_moment(report.made_at)} UTC · last 30 days</p>",
            _tiles(report),
            _plots(report),
            _items(report),
            _alerts(report),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _tiles(report: VaultReport) -> str:
    bad = sum(item.health != "Healthy" for item in report.items)
    count, running = len(report.items), sum(backups_run(item.state) for item in report.items)
    of = "protected items" if running == count else f"protected of {count} items"
    share = f"{100 * report.present // report.expected} %" if report.expected else NOTHING
    tiles = (
        (size(report.stored_bytes), "stored", False),
        (_signed(report.growth_bytes), f"since {report.known_since:%-d %b}", False),
        (str(running), of, False),
        (str(report.recovery_points), "recovery points", False),
        (share, f"{report.present} of {report.expected} points expected", False),
        (str(bad), "items failed or overdue", bad > 0),
        (str(len(report.alerts)), "alerts", bool(report.alerts)),
    )
    cells = "".join(
        f'<div class="card tile"><b{" class=bad" if alarm else ""}>{escape(value)}</b>'
        f"<span>{escape(what)}</span></div>"
        for value, what, alarm in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _plots(report: VaultReport) -> str:
    key = "".join(f'<span><i class="{kind}"></i>{word}</span>' for kind, word in KEY)
    stored = [(f"{item.name} · {item.machine}", item.stored_bytes) for item in report.items]
    by_item = (
        f'<section class="card wide plot"><h2>Storage by item</h2>{storage_plot(stored)}'
        '<p class="note">What the recovery points of each item added to the vault.</p></section>'
        if stored
        else ""
    )
    return (
        f'<div class="two"><section class="card plot"><h2>Bytes stored</h2>'
        f"{growth_plot(report.history)}</section>"
        f'<section class="card plot"><h2>Backups per day</h2>{days_plot(report.days)}'
        f'<p class="key">{key}</p></section></div>{by_item}'
    )


def _items(report: VaultReport) -> str:
    heads = (
        ("Item", ""),
        ("Policy", ""),
        ("Health", ""),
        ("Newest point (UTC)", ""),
        ("Size", "number"),
        ("Stored", "number"),
        ("Growth", "number"),
        ("Points", "number"),
        ("As its policy says", "number"),
    )
    head = "".join(f'<th class="{kind}">{name}</th>' for name, kind in heads)
    shown, left_out = _shown(report.items)
    rows = "".join(_item(item) for item in shown)
    if not rows:
        rows = f'<tr><td colspan="{len(heads)}" class="note">Nothing is protected yet.</td></tr>'
    note = f'<p class="note">{left_out} more are in the CSV report.</p>' if left_out else ""
    return (
        f'<section class="card"><h2>Items</h2><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>{note}</section>"
    )


def _shown(items: Sequence[ItemReport]) -> tuple[Sequence[ItemReport], int]:
    """What a page has room for, and how many it leaves out: first those that need attention."""
    if len(items) <= MOST_ROWS:
        return items, 0
    worst = sorted(items, key=lambda item: (item.health == "Healthy", item.compliance.share == 1))
    return worst[:MOST_ROWS], len(items) - MOST_ROWS


def _item(item: ItemReport) -> str:
    pill, word = PILLS.get(item.health, "off"), item.health
    if item.health == "Healthy" and item.state in STATES:
        pill, word = "off", STATES[item.state]
    last = STATUS.get(item.last_status)
    status = f"<small>last backup {last}</small>" if last else ""
    return (
        f'<tr><td class="name">{escape(item.name)}<small>{escape(item.machine)}</small></td>'
        f"<td>{escape(item.policy) or NOTHING}</td>"
        f'<td><span class="pill {pill}">{escape(word)}</span>{status}</td>'
        f"<td>{_moment(item.newest_point_at)}</td>"
        f'<td class="number">{size(item.logical_bytes)}</td>'
        f'<td class="number">{size(item.stored_bytes)}</td>'
        f'<td class="number">{_signed(item.growth_bytes)}</td>'
        f'<td class="number">{item.recovery_points}</td>'
        f'<td class="number">{_compliance(item)}</td></tr>'
    )


def _compliance(item: ItemReport) -> str:
    found = item.compliance
    if found.share is None:
        return NOTHING
    kind = "" if found.share == 1 else "warn" if found.share >= 0.9 else "bad"
    gap = ""
    if found.longest_gap is not None:
        gap = f"<small>longest gap {_hours(found.longest_gap.total_seconds())}</small>"
    return (
        f"{found.present} of {found.expected}"
        f'<div class="meter"><i class="{kind}" style="width:{100 * found.share:.0f}%"></i></div>'
        f"{gap}"
    )


def _alerts(report: VaultReport) -> str:
    rows = "".join(
        f'<tr><td><span class="pill {"bad" if row.severity < 2 else "warn"}">Sev{row.severity}'
        f"</span></td><td>{escape(RULES[row.rule].title)}</td>"
        f'<td class="name">{escape(row.subject)}</td><td>{escape(row.message)}</td>'
        f"<td>{_moment(row.fired_at)}</td></tr>"
        for row in report.alerts
    )
    if not rows:
        return '<section class="card"><h2>Alerts</h2><span class="note">None.</span></section>'
    head = "".join(f"<th>{name}</th>" for name in ("", "What", "About", "Why", "Since (UTC)"))
    return (
        f'<section class="card"><h2>Alerts</h2><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></section>"
    )


def _signed(count: int | None) -> str:
    return f"+{size(count)}" if count is not None and count > 0 else size(count)


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at is not None else NOTHING
