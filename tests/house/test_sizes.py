"""Rooms stay small: file and function sizes, with the exemptions named here and why."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "holdfast"
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
FILE_EXEMPT: dict[str, str] = {}
FUNCTION_EXEMPT: dict[str, str] = {}


def _modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def test_no_file_outgrows_its_room() -> None:
    large = {
        str(path.relative_to(SOURCE)): lines
        for path in _modules()
        if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert {name for name in large if name not in FILE_EXEMPT} == set(), large


def test_no_function_outgrows_a_screen() -> None:
    large = []
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                name = f"{path.relative_to(SOURCE)}:{node.name}"
                if lines > MAX_FUNCTION_LINES and name not in FUNCTION_EXEMPT:
                    large.append((name, lines))
    assert large == []
