"""What a page costs, through the whole application: as many statements for a long list as for a
short one, and by its links every row once. `make bench-catalog` measures the time of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from sqlalchemy.event import listen

from holdfast.arm.http import PAGE_ROWS
from holdfast.catalog import policies
from holdfast.testing.catalog_rows import Amounts, fill
from holdfast.testing.in_process import InProcess, in_process
from holdfast.testing.ports import SeededRandom

FEW = Amounts(containers=3, items=5, points=5, one_item=5, jobs=5, policies=5)
MANY = Amounts(containers=450, items=900, points=900, one_item=600, jobs=900, policies=410)
MOST_STATEMENTS = 18  # of which nine say who asks, and of which vault
MADE_WITH_A_VAULT = 3  # policies


@dataclass
class Lists:
    """An application with a short vault and a long one."""

    app: InProcess
    token: str
    items: dict[str, Any]
    statements: int = 0

    def page(self, link: str) -> tuple[dict[str, Any], int]:
        """A page and the statements it took when nothing was asked before it."""
        self.app.parts.platform.catalog.forget()
        before = self.statements
        parts = urlsplit(link)
        answer = self.app.call("GET", f"{unquote(parts.path)}?{parts.query}", token=self.token)
        assert answer.status == 200, answer.content
        return answer.json, self.statements - before

    def walk(self, link: str) -> tuple[list[dict[str, Any]], list[int]]:
        """All rows of a list, and what each page took."""
        rows: list[dict[str, Any]] = []
        taken: list[int] = []
        while link:
            page, count = self.page(link)
            assert len(page["value"]) <= PAGE_ROWS
            rows += page["value"]
            taken.append(count)
            link = page.get("nextLink", "")
        return rows, taken

    def address(self, vault: str, what: str) -> str:
        base = self.app.vault(vault)
        if what != "points":
            return f"{base}/{what}?api-version=1"
        holder, _, _ = self.items[vault].item_key.partition("/")
        item = f"{holder}/protectedItems/{self.items[vault].name}"
        path = f"{base}/backupFabrics/Azure/protectionContainers/{item}/recoveryPoints"
        return f"{path}?api-version=1"


def made(app: InProcess, token: str, name: str, amounts: Amounts) -> Any:
    """A vault with rows; its first item."""
    group = f"{app.subscription}/resourcegroups/rg1"
    assert app.call("PUT", group, {"location": "local"}, token=token).status < 300
    body = {"location": "local", "properties": {}}
    vault = app.call("PUT", app.vault(name), body, token=token).json
    vault_id, rng = vault["properties"]["holdfast"]["vaultId"], SeededRandom(amounts.items)
    with app.parts.platform.catalog.write() as connection:
        policy = policies.find_policy(connection, vault_id, "DefaultPolicy")
        assert policy is not None
        return fill(connection, rng, policy, datetime(2026, 3, 1, tzinfo=UTC), amounts)[0]


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lists]:
    data: Path = tmp_path_factory.mktemp("lists") / "server"
    with in_process(data) as app:
        token = app.holder("Owner", app.subscription)
        items = {
            name: made(app, token, name, amounts)
            for name, amounts in (("few", FEW), ("many", MANY))
        }
        found = Lists(app, token, items)

        def count(*_: object) -> None:
            found.statements += 1

        listen(app.parts.platform.catalog.engine, "before_cursor_execute", count)
        yield found


HOW_MANY = {
    "backupProtectedItems": MANY.items,
    "backupProtectionContainers": MANY.containers,
    "backupJobs": MANY.jobs,
    "backupPolicies": MANY.policies + MADE_WITH_A_VAULT,
    "points": MANY.one_item + 1,
}


@pytest.mark.parametrize("what", HOW_MANY)
def test_a_long_list_is_walked_whole_with_bounded_work(lists: Lists, what: str) -> None:
    _, (short,) = lists.walk(lists.address("few", what))
    rows, taken = lists.walk(lists.address("many", what))
    assert len(rows) == len({row["id"] for row in rows}) == HOW_MANY[what]
    assert len(taken) == -(-len(rows) // PAGE_ROWS) > 2
    assert max(taken) <= short, f"pages of a long list took {taken} statements, a short one {short}"
    assert short <= MOST_STATEMENTS
