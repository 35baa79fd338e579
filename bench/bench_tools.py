"""``make bench-tools``: the competitors of ``make bench``, each at a pinned version.

They are built from their languages' own registries into a folder git ignores. Go compares sums with
its sum database, cargo with the crate's lock file, pip with requirements/borg.lock. What cannot be
had is named with the reason; of restic and Borg the program of the system stands in. NOTES in that
folder tells the benchmark what came from where, and what did not.

Go builds each program as what a module of its own requires: ``go install`` at an exact version asks
for the list of versions too, which a registry may not have.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".bench-tools"
NOTES = "tools.json"
REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Tool:
    """``path`` is empty when it is not to be had; ``note``: why, or why another one stands in."""

    name: str
    version: str
    source: str
    path: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to install: ``make`` is the kind of registry, ``what`` its name for it there, ``part``
    the program within it."""

    name: str
    make: str
    what: str
    version: str
    part: str = ""


WANTED = (
    Wanted("kopia", "go", "github.com/kopia/kopia", "v0.23.1"),
    Wanted("restic", "go", "github.com/restic/restic", "v0.19.1", "/cmd/restic"),
    Wanted("rustic", "cargo", "rustic-rs", "0.11.4"),
    Wanted("borg", "pip", "borgbackup", "1.4.5"),
)
SOURCES = {"go": "the Go module proxy", "cargo": "crates.io", "pip": "PyPI"}
VERSION = {"restic": ("version",)}
BORG_HEADERS = "libacl1-dev liblz4-dev libxxhash-dev libzstd-dev libssl-dev pkg-config"


def install(wanted: Wanted, folder: Path, programs: dict[str, str]) -> str:
    """Build it below ``folder``; why it could not be had, or nothing."""
    steps, environment = _steps(wanted, folder, programs)
    for words in steps:
        try:
            done = subprocess.run(["nice", "-n", "15", *words], env=os.environ | environment,
                                  capture_output=True, check=False, text=True)  # fmt: skip
        except OSError as error:
            return f"{words[0]}: {error.strerror}"
        if done.returncode:
            return reason_of(done.stderr or done.stdout, f"{words[0]} ended {done.returncode}")
    return ""


def _steps(
    wanted: Wanted, folder: Path, programs: dict[str, str]
) -> tuple[list[list[str]], dict[str, str]]:
    """The commands, one job at a time, and what is added to the environment."""
    if wanted.make == "go":
        place = folder / "modules" / wanted.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        go = [programs["go"], "-C", str(place)]
        program = str(program_of(wanted, folder))
        begin = [*go, "mod", "init", f"bench-{wanted.name}"]
        require = [*go, "mod", "edit", f"-require={wanted.what}@{wanted.version}"]
        build = [*go, "build", "-mod=mod", "-p=1", "-o", program, wanted.what + wanted.part]
        return [begin, require, build], {"CGO_ENABLED": "0"}
    if wanted.make == "cargo":
        words = [programs["cargo"], "install", wanted.what, "--version", f"={wanted.version}",
                 "--locked", "-j1", "--root", str(folder)]  # fmt: skip
        return [words], {}
    place = folder / "borg"
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    lock = str(ROOT / "requirements" / "borg.lock")
    return [
        [sys.executable, "-m", "venv", str(place)],
        [*pip, "--disable-pip-version-check", "--require-hashes", "-r", lock],
    ], {}


def reason_of(output: str, otherwise: str) -> str:
    """The line of a failed build that says most: its last one about an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "403" in line or "could not" in line.lower()]
    telling = telling or [line for line in lines if line.lower().startswith("error")]
    return ((telling or lines or [otherwise])[-1])[:REASON_CHARACTERS]


def program_of(wanted: Wanted, folder: Path) -> Path:
    return (
        folder / "borg" / "bin" / "borg" if wanted.make == "pip" else folder / "bin" / wanted.name
    )


def version_of(name: str, path: str) -> str:
    words = [path, *VERSION.get(name, ("--version",))]
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    return (done.stdout or done.stderr).strip().split("\n")[0]


def have(wanted: Wanted, before: Tool | None, folder: Path, programs: dict[str, str]) -> Tool:
    """Installed now or before; else the system's, else none."""
    path = program_of(wanted, folder)
    built = Tool(wanted.name, wanted.version.lstrip("v"), SOURCES[wanted.make], str(path))
    if built == before and path.exists():
        return built
    print(f"{wanted.name} {wanted.version}: building", flush=True)
    reason = install(wanted, folder, programs)
    if not reason:
        return built
    why = f"{wanted.version} is not to be had from {SOURCES[wanted.make]}: {reason}"
    if wanted.make == "pip":
        why += f" (building it needs Debian's {BORG_HEADERS})"
    stand_in = shutil.which(wanted.name)
    if stand_in is None:
        return Tool(wanted.name, "", "", "", why)
    return Tool(wanted.name, version_of(wanted.name, stand_in), "the system", stand_in, why)


def read_tools(folder: Path = FOLDER) -> list[Tool]:
    """What ``make bench-tools`` noted; nothing when it was not run."""
    try:
        noted: Sequence[dict[str, str]] = json.loads((folder / NOTES).read_text())
    except FileNotFoundError:
        return []
    return [Tool(**one) for one in noted]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--go", default="go", help="the go command")
    parser.add_argument("--cargo", default="cargo", help="the cargo command")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", choices=[one.name for one in WANTED])
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    programs = {"go": arguments.go, "cargo": arguments.cargo}
    found = {tool.name: tool for tool in read_tools(folder)}
    for wanted in WANTED:
        if arguments.only is None or wanted.name in arguments.only:
            tool = have(wanted, found.get(wanted.name), folder, programs)
            found[tool.name] = tool
            (folder / NOTES).write_text(
                json.dumps([asdict(one) for one in found.values()], indent=2)
            )
            print(f"{tool.name}: {tool.version or 'none'} {tool.source} {tool.note}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
