"""The reference pages say what the source says, and every error says what to do."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import click

from holdfast.cli.main import root
from holdfast.domain.alerts import RULES, severity_name
from holdfast.testing import compatibility
from holdfast.testing.api_routes import all_routes

ROOT = Path(__file__).parents[2]
USER_FACING = ("UsageError", "AuthenticationError", "AccessError", "NotFoundError", "LimitError")
READ_BY_AGENTS = (
    "agent_api.py",
    "agent_bodies.py",
    "receiving.py",
    "agent_data.py",
    "agent_tasks.py",
)
SERVER_ROOMS = ("arm", "identity", "services", "settings.py", "server.py", "bootstrap.py")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_docs", ROOT / "tools" / "gen_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks for its module
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_current() -> None:
    stale = [path.name for path, text in generator().pages().items() if path.read_text() != text]
    assert stale == [], "run tools/gen_docs.py"


def test_every_operation_of_the_sdks_is_covered_or_refused() -> None:
    assert set(compatibility.sdk_coverage(ROOT / "tests")) == compatibility.operations()


def test_every_request_of_az_is_of_a_command_in_the_page() -> None:
    covered = compatibility.az_coverage(ROOT / "tests")
    assert set(compatibility.az_requests(ROOT / "tests")) <= set(covered)
    assert len([name for name in covered if name.startswith("backup ")]) >= 66


def test_what_only_az_asks_for_is_not_said_to_work_where_it_is_refused() -> None:
    """Routes for what other providers of Azure would have answer 404 always."""
    rows = compatibility.rows(ROOT / "tests")
    absent = {str(one) for one in all_routes() if one.doc.startswith("Resources of other")}
    shown = {name: row.covered for name, row in rows.items() if name in absent}
    assert shown
    assert {str(covered).partition(":")[0] for covered in shown.values()} == {"refused"}
    known = set(map(str, all_routes()))
    assert set(compatibility.refused_requests(ROOT / "tests")) <= known


def test_operations_are_what_the_tests_of_all_their_callers_say() -> None:
    works = compatibility.Covered()
    partly = compatibility.Covered("partly", frozenset({"folders alone"}))
    refused = compatibility.Covered("refused", frozenset({"no tier"}))
    assert str(works | works) == "works"
    assert str(works | partly) == "partly: folders alone"
    assert str(refused | refused) == "refused: no tier"
    assert str(refused | works) == "partly: no tier"


def test_words_of_an_address_go_before_names() -> None:
    known = ["POST /V/{vault}/backupJobs/{job}", "POST /V/{vault}/backupJobs/export"]
    found = compatibility.operation_of("POST", "/v/v1/BACKUPJOBS/export", known)
    assert found == known[1]
    assert compatibility.operation_of("POST", "/V/v1/backupJobs/1", known) == known[0]
    assert compatibility.operation_of("GET", "/V/v1/backupJobs/1", known) == ""


def test_what_is_named_beside_commands_of_az_exists() -> None:
    assert set(compatibility.OURS) <= set(compatibility.az_coverage(ROOT / "tests"))
    for words in compatibility.OURS.values():
        found: click.Command = root
        for word in words.split():
            if word.startswith("--"):
                assert word in {name for one in found.params for name in one.opts}, words
                continue
            assert isinstance(found, click.Group), words
            under = found.get_command(click.Context(found), word)
            assert under is not None, words
            found = under


def test_every_kind_of_alert_is_in_the_page_with_its_severity() -> None:
    page = (ROOT / "docs" / "how-to" / "alerts-and-reports.md").read_text()
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    said = {
        (name, severity.strip())
        for names, severity in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    assert said == {(rule.name, severity_name(rule.severity)) for rule in RULES.values()}


def test_errors_of_the_server_say_what_to_do() -> None:
    gen = generator()
    silent = [
        (path.name, raised.code, raised.message)
        for path in sorted((ROOT / "src" / "holdfast").rglob("*.py"))
        if path.relative_to(ROOT / "src" / "holdfast").parts[0] in SERVER_ROOMS
        for raised in gen.raised_in(path)
        if raised.kind in USER_FACING and not raised.hint and path.name not in READ_BY_AGENTS
    ]
    assert silent == []
