"""The README shows what `make demo` prints today: commands, headings, columns and sentences."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "readme_transcript.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_transcript", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(300)
def test_the_readme_shows_what_the_demo_prints(tool: ModuleType, tmp_path: Path) -> None:
    assert len(tool.written().splitlines()) > 20
    found = tool.differences(tool.small_folder(tmp_path / "source"))
    assert found == [], "run: python tools/readme_transcript.py"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("recovery point  time (UTC)  stored", "recovery point  time (UTC)  expires  stored"),
        ("Backup of files: Completed in 1.2 s", "Backup of files: Completed"),
        ("$ holdfast vault create demo -g demo", "$ holdfast vault create demo"),
    ],
)
def test_another_form_is_seen(tool: ModuleType, before: str, after: str) -> None:
    assert tool.form_of(before) != tool.form_of(after)


def test_figures_are_no_form(tool: ModuleType) -> None:
    one = "Restore: Completed in 72.2 s\n  51,989 files restored, logical 596.6 MB\n1  2026-11-26"
    other = "Restore: Completed in 1 min 9 s\n  7 files restored, logical 12 B\n22 2027-01-01"
    assert tool.form_of(one) == tool.form_of(other)
