"""The report as people see it: what names may do to it, and its plots."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser

import pytest

from holdfast.catalog.alerts import AlertRow
from holdfast.domain.compliance import Compliance
from holdfast.services.report import DayOfBackups, ItemReport, VaultReport
from holdfast.services.report_csv import csv_of
from holdfast.services.report_html import html_of
from holdfast.services.report_plots import growth_plot, round_up, size, storage_plot

NOW = datetime(2026, 3, 31, 9, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\" onload='x' & </style></svg><img src=//evil.invalid>"
VOID = {"meta"}


class Reader(HTMLParser):
    """Tags, attributes and text of a page; fails when tags do not nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.urls: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.urls += [value or "" for name, value in attrs if name in ("href", "src", "url")]
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def item(name: str, stored: int, **more: object) -> ItemReport:
    values: dict[str, object] = {
        "name": name,
        "machine": HOSTILE,
        "policy": HOSTILE,
        "state": "Protected",
        "health": "Healthy",
        "last_status": "Completed",
        "last_backup_at": NOW,
        "newest_point_at": NOW,
        "logical_bytes": 3 * stored,
        "stored_bytes": stored,
        "recovery_points": 30,
        "growth_bytes": -5_000,
        "compliance": Compliance(30, 28, (NOW,), timedelta(hours=48)),
    }
    return ItemReport(**(values | more))  # type: ignore[arg-type]


def report(*items: ItemReport) -> VaultReport:
    alert = AlertRow(
        *("id", "vault", "BackupFailure", "about", 1, "New", "Fired", HOSTILE, HOSTILE, "", {}, 1),
        *(NOW, NOW, None, NOW, "System"),
    )
    days = [
        DayOfBackups(date(2026, 3, 1) + timedelta(days=n), 3, n % 4 == 0, n % 7 == 0)
        for n in range(31)
    ]
    history = [(date(2026, 3, 1) + timedelta(days=n), 10**9 + n * 10**7) for n in range(31)]
    stored = sum(one.stored_bytes for one in items)
    return VaultReport(
        *(HOSTILE, "rg1", HOSTILE, NOW, stored, 60, 3 * 10**8, date(2026, 3, 1)),
        *(list(items), days, history, [alert]),
    )


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_no_name_gets_out_of_its_place() -> None:
    found = read(html_of(report(item(HOSTILE, 10**9), item("docs", 10**6))))
    assert found.tags.isdisjoint({"script", "img", "iframe", "object", "link", "foreignobject"})
    assert not {name for name in found.attributes if name.startswith("on")}
    assert found.urls == []
    assert found.text.count(HOSTILE) >= 6, "it is shown as it is"


def test_the_page_says_what_is_not_as_it_should_be() -> None:
    late = item("late", 10, health="Overdue", compliance=Compliance(30, 12, (), None))
    idle = item("idle", 10, state="ProtectionStopped", compliance=Compliance())
    text = read(html_of(report(late, idle))).text
    for words in ("Overdue", "12 of 30", "Stopped", "40 %", "Backup failed"):
        assert words in text


def test_what_is_stopped_or_deleted_is_shown_as_that() -> None:
    none = Compliance()
    states = ("ProtectionStopped", "BackupsSuspended", "SoftDeleted", "IRPending")
    held = [item(state, 10, state=state, compliance=none) for state in states]
    page = read(html_of(report(item("docs", 10), *held)))
    for word in ("Stopped", "Suspended", "Deleted", "No point yet"):
        assert word in page.text
    assert "2protected of 5 items" in page.text
    assert "0items failed or overdue" in page.text


def test_a_large_vault_has_a_page_that_opens_with_what_needs_attention_on_it() -> None:
    whole = Compliance(30, 30, (), timedelta(hours=25))
    many = [item(f"folder {number}", 10, compliance=whole) for number in range(9_997)]
    bad = [
        item("lost", 10, health="Failed", compliance=whole),
        item("late", 10, health="Overdue", compliance=whole),
        item("gaps", 10),
    ]
    page = html_of(report(*many, *bad))
    assert len(page) < 1_000_000
    found = read(page)
    assert "9000 more are in the CSV report." in found.text
    rows = found.text.partition("As its policy says")[2]
    places = [rows.index(name) for name in ("lost", "late", "gaps", "folder 0")]
    assert places == sorted(places)
    assert len(csv_of(report(*many, *bad)).splitlines()) == 10_001


def test_an_empty_vault_has_a_page() -> None:
    days = [DayOfBackups(NOW.date(), 0, 0, 0)]
    shown = VaultReport(
        *("v1", "rg1", "local", NOW, 0, 0, None, NOW.date(), [], days),
        *([(NOW.date(), 0)], []),
    )
    assert "Nothing is protected yet." in read(html_of(shown)).text


def test_a_spreadsheet_computes_nothing() -> None:
    text = csv_of(report(item("=HYPERLINK(1)", 1), item('a,"b"\nc', 2), item("-1+1", 3)))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["item"] for row in rows] == ["'=HYPERLINK(1)", 'a,"b"\nc', "'-1+1"]
    assert [row["presentPoints"] for row in rows] == ["28"] * 3
    assert rows[0]["growthBytes30Days"] == "-5000"


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (1, 1), (3, 5), (21, 25), (99, 100), (260, 500), (1_000_001, 2e6)]
)
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert round_up(value) == top


def test_sizes() -> None:
    assert [size(one) for one in (0, 999, 1_500, 123_456_789, -2 * 10**12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "123 MB",
        "\N{MINUS SIGN}2.0 TB",
    ]


def test_small_items_are_shown_together() -> None:
    plot = storage_plot([(f"item-{number}", 100 - number) for number in range(40)])
    assert plot.count('class="bar"') == 13
    assert "28 more" in plot


def test_one_sample_makes_a_line() -> None:
    assert growth_plot([(date(2026, 3, 1), 5)]).count(",") >= 2
