"""How long one page of each list takes with a full catalog, on SQLite and on PostgreSQL.

A server over TLS on loopback and a client that asks as az does: the first page and those that
follow, of items and of the points of one item all of them. Prints a Markdown table of median, 95th
percentile and slowest call in milliseconds, and of the CPU time a call costs the server (that of
PostgreSQL not counted), which tells more on a machine that others use. Ends with 1 when a 95th
percentile is over the limit.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast.adapters.clock import SystemRandom
from holdfast.arm.http import PAGE_ROWS
from holdfast.catalog import policies
from holdfast.catalog.database import Catalog
from holdfast.testing.catalog_rows import Amounts, fill
from holdfast.testing.live_server import LiveServer, live_server
from holdfast.testing.servers import postgres

FULL = Amounts(
    containers=1_000, items=10_000, points=90_000, one_item=10_000, jobs=100_000, policies=200
)
LIMIT_MS = 150
FILES = "backupManagementType eq 'MAB'"


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    """Name to catalog URL; "" is a file beside the server's data."""
    with postgres() as server:
        yield {"SQLite": "", "PostgreSQL": server.database()}


def filled(server: LiveServer, url: str, amounts: Amounts) -> list[Any]:
    """Put the rows in; the items."""
    vault_id = server.ok("GET", server.make_vault())["properties"]["holdfast"]["vaultId"]
    catalog = Catalog.open(url or f"sqlite:///{server.data / 'catalog.sqlite'}")
    with catalog.write() as connection:
        policy = policies.find_policy(connection, vault_id, "DefaultPolicy")
        assert policy is not None
        made = fill(connection, SystemRandom(), policy, datetime.now(UTC), amounts)
    catalog.close()
    return made


def questions(server: LiveServer, item: Any) -> dict[str, tuple[str, dict[str, str]]]:
    """What is asked: words for the table, address, query."""
    vault = server.vault()
    container = item.item_key.partition("/")[0]
    point = f"{vault}/backupFabrics/Azure/protectionContainers/{container}"
    points = f"{point}/protectedItems/{item.name}/recoveryPoints"
    summary = f"{vault}/backupUsageSummaries"
    now = datetime.now(UTC)
    day = now.strftime("%Y-%m-%d")
    asked: dict[str, tuple[str, str]] = {
        "items": ("backupProtectedItems", ""),
        "items of a policy": ("backupProtectedItems", f"{FILES} and policyName eq 'DefaultPolicy'"),
        "items of a policy without any": (
            "backupProtectedItems", f"{FILES} and policyName eq 'EnhancedPolicy'"),
        "jobs": ("backupJobs", ""),
        "jobs that failed (none)": ("backupJobs", f"{FILES} and status eq 'Failed'"),
        "jobs that restore (none)": ("backupJobs", "operation eq 'Restore'"),
        "jobs that ended well": ("backupJobs", "status eq 'Completed' and operation eq 'Backup'"),
        "jobs since today": ("backupJobs", f"startTime eq '{day} 12:00:00 AM'"),
        "machines": ("backupProtectionContainers", FILES),
        "a machine by name": ("backupProtectionContainers", "friendlyName eq 'host00999'"),
        "policies": ("backupPolicies", ""),
    }  # fmt: skip
    found = {
        name: (f"{vault}/{path}", {"$filter": text} if text else {})
        for name, (path, text) in asked.items()
    }
    return found | {
        "points of one item": (points, {}),
        "points until yesterday": (points, {"$filter": f"endDate eq '{day} 12:00:00 AM'"}),
        "count of items": (summary, {"$filter": "type eq 'ProtectedItemCountSummary'"}),
        "count of machines": (summary, {"$filter": "type eq 'ProtectionContainerCountSummary'"}),
        "usages": (f"{vault}/usages", {}),
    }


@dataclass(frozen=True, slots=True)
class Reading:
    """Milliseconds of each call, the ids of the rows that came, and the server's CPU time."""

    taken: list[float]
    seen: list[str]
    cpu_ms: float = 0.0

    @property
    def p95(self) -> float:
        return sorted(self.taken)[math.ceil(0.95 * len(self.taken)) - 1]

    def __str__(self) -> str:
        median, slowest = statistics.median(self.taken), max(self.taken)
        cpu = self.cpu_ms / len(self.taken)
        return f"{median:.0f} / {self.p95:.0f} / {slowest:.0f} ({cpu:.0f})"


def cpu_ms(server: LiveServer) -> float:
    """CPU time the server's process has used, of user and system; in steps of a clock tick."""
    assert server.process is not None
    stat = Path(f"/proc/{server.process.pid}/stat").read_text()
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK")


def measure(server: LiveServer, path: str, query: dict[str, str], calls: int) -> Reading:
    """The first page, those that follow, and the first again when there are no more."""
    taken: list[float] = []
    seen: list[str] = []
    used = cpu_ms(server)
    headers = {"Authorization": f"Bearer {server.token()}"}
    link = ""
    for _ in range(calls):
        started = time.perf_counter()
        answer = server.raw("GET", link, headers=headers) if link else server.get(path, **query)
        taken.append((time.perf_counter() - started) * 1000)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        seen.extend(str(row.get("id")) for row in body["value"])
        link = body.get("nextLink", "")
    return Reading(taken, seen, cpu_ms(server) - used)


def walk(server: LiveServer, path: str, rows: int) -> Reading:
    """Every page of a list that has ``rows`` rows, each once."""
    found = measure(server, path, {}, -(-rows // PAGE_ROWS))
    assert len(found.seen) == len(set(found.seen)) == rows, f"{path}: {len(set(found.seen))}"
    return found


def run(calls: int, amounts: Amounts) -> dict[str, dict[str, Reading]]:
    table: dict[str, dict[str, Reading]] = {}
    with tempfile.TemporaryDirectory() as place, databases(Path(place)) as urls:
        for name, url in urls.items():
            environment = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_CATALOG_URL": url}
            if not url:
                del environment["HOLDFAST_CATALOG_URL"]
            with live_server(Path(place) / name, environment) as server:
                item = filled(server, url, amounts)[0]
                asked = questions(server, item)
                for what, (path, query) in asked.items():
                    measure(server, path, query, 2)
                    table.setdefault(what, {})[name] = measure(server, path, query, calls)
                own = amounts.one_item + -(-amounts.points // amounts.items)
                for what, rows in (("items", amounts.items), ("points of one item", own)):
                    found = walk(server, asked[what][0], rows)
                    table.setdefault(f"{what}: all {rows:,}", {})[name] = found
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=40, help="calls of each list")
    table = run(parser.parse_args().calls, FULL)
    names = list(next(iter(table.values())))
    print("Milliseconds: median / 95th percentile / slowest (CPU of the server).\n")
    print(f"| one page of | {' | '.join(names)} |")
    print(f"|---|{'---|' * len(names)}")
    for what, found in table.items():
        print(f"| {what} | {' | '.join(str(found[name]) for name in names)} |")
    slow = [
        f"{what} on {name}: {reading.p95:.0f} ms"
        for what, found in table.items()
        for name, reading in found.items()
        if reading.p95 > LIMIT_MS
    ]
    print(f"\n95th percentile over {LIMIT_MS} ms a page: {'; '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
