"""The reference pages say what the source says, and every error says what to do."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from holdfast.testing import compatibility

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
