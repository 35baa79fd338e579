"""Puts the transcript of a real ``make demo`` into the README, or says whether its form still fits.

    python tools/readme_transcript.py            run the demo and write its transcript
    python tools/readme_transcript.py --check    run it on a small folder and compare the forms

The form of a transcript is its lines without figures, times, sizes and paths: commands, headings,
columns and sentences.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README, DEMO = ROOT / "README.md", ROOT / "tools" / "demo.py"
START, END = "```\n$ make demo\n", "\n```\n"
SOURCE = Path("/usr/share")
WIDTH = "100"
SMALL_FILES = 500
_FORMS = (
    (re.compile(r"\d+ min \d+ s\b|[\d.]+ s\b"), "TIME"),
    (re.compile(r"[\d.,]+ [kMGT]?B\b"), "SIZE"),
    (re.compile(r"--include (?!\.\.\.)\S+"), "--include SOURCE"),
    (re.compile(r"\d[\d.,:%-]*(?: \d\d:\d\d:\d\d)?"), "N"),
    (re.compile(r"[━─-]{2,}"), "--"),
    (re.compile(r"\s+"), " "),
)


def run_demo(source: Path) -> str:
    """What the demo prints, without progress; its folder is written as ``...``."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, str(DEMO), "--source", str(source)],
            env={**os.environ, "COLUMNS": WIDTH, "TMPDIR": place},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"the demo ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        folder = re.escape(place) + r"/holdfast-demo-\w+"
    lines = re.sub(folder, "...", done.stdout).splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def written() -> str:
    """The transcript of the README."""
    return README.read_text().partition(START)[2].partition(END)[0]


def write(transcript: str) -> None:
    before, _, rest = README.read_text().partition(START)
    README.write_text(before + START + transcript + END + rest.partition(END)[2])


def form_of(transcript: str) -> list[str]:
    """Its lines without what differs from run to run."""
    lines = []
    for line in transcript.splitlines():
        for pattern, word in _FORMS:
            line = pattern.sub(word, line)
        lines.append(line.strip())
    return lines


def differences(source: Path) -> list[str]:
    """How the form of what the demo prints today differs from the README's; empty when not."""
    now = form_of(run_demo(source))
    return list(unified_diff(form_of(written()), now, "README.md", "make demo", lineterm=""))


def small_folder(place: Path) -> Path:
    for number in range(SMALL_FILES):
        folder = place / f"folder-{number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number}.txt").write_text(f"line {number}\n" * (number + 1))
    return place


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        write(run_demo(SOURCE))
        return 0
    with tempfile.TemporaryDirectory() as place:
        found = differences(small_folder(Path(place) / "source"))
    print("\n".join(found) or "the README's transcript has the form of the demo")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
