"""The tree names no machine path and no registry, and leaves nothing unfinished in the source."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MACHINE = re.compile(
    r"(/wo"
    r"rk/|/ro"
    r"ot/|\.py"
    r"env|files\.python"
    r"hosted|registry\.np"
    r"mjs|pypi\.o"
    r"rg/simple)"
)
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|NotImplemented" r"Error)\b")


def _tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", *patterns], capture_output=True, check=True
    )
    names = done.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def _hits(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    hits = []
    for path in paths:
        text = path.read_bytes().decode("utf-8", errors="ignore")
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                hits.append(f"{path.relative_to(ROOT)}:{number}")
    return hits


def test_no_machine_paths_or_registries() -> None:
    assert _hits(MACHINE, _tracked()) == []


def test_no_unfinished_words_in_the_source() -> None:
    assert _hits(UNFINISHED, _tracked("src/*.py")) == []


def test_lock_files_hold_hashes_and_no_addresses() -> None:
    for path in _tracked("requirements/*.lock"):
        text = path.read_text()
        assert "--hash=sha256:" in text
        assert "http" not in re.sub(r"(httptools|httpx2?|httpcore2?|http-ece)[^\n]*", "", text)
