"""The main job on real input, in front of the user's eyes: ``make demo``.

Starts a server with its embedded default in a temporary folder, enrols this machine, protects
SOURCE (read only) and a scratch folder, backs up, changes the scratch folder, backs up again,
restores elsewhere, compares every byte and attribute, and cleans up behind itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from holdfast.workloads.files.compare import Inventory, compare_inventories, take_inventory

HOLDFAST = Path(sys.executable).with_name("holdfast")
SCRATCH_FILES = 400
READY_SECONDS = 60.0
GROUP, VAULT, HOST, ITEM, POLICY = "demo", "demo-vault", "demo-machine", "files", "DefaultPolicy"

console = Console()


class Demo:
    """One run: its folder, its environment, the processes it started and the figures it saw."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.scratch = folder / "scratch"
        self.restored = folder / "restored"
        self.figures: list[tuple[str, float, int, int, int]] = []
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            "HOLDFAST_CONFIG_DIR": str(folder / "profile"),
            "HOLDFAST_GROUP": GROUP,
            "HOLDFAST_VAULT": VAULT,
        }

    def run(self, *words: str, allowed: tuple[int, ...] = (0, 3)) -> int:
        """Type one command, shown as the user would type it; its output goes to the terminal."""
        console.print(
            f"[bold cyan]$ holdfast {' '.join(words)}[/]", highlight=False, soft_wrap=True
        )
        code = self._finish(subprocess.Popen([str(HOLDFAST), *words], env=self.environment))
        if code not in allowed:
            raise SystemExit(f"demo: `holdfast {words[0]} ...` ended with {code}")
        return code

    def _finish(self, command: subprocess.Popen[bytes]) -> int:
        """Its exit code; SystemExit when a program it may wait for has stopped."""
        while True:
            try:
                return command.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                stopped = [name for name, one in self.programs.items() if one.poll() is not None]
            if stopped:
                command.kill()
                command.wait()
                log = (self.folder / f"{stopped[0]}.log").read_text()
                raise SystemExit(f"demo: the {stopped[0]} stopped:\n{log}")

    def ask(self, *words: str) -> Any:
        """Run one command quietly and return its JSON."""
        done = subprocess.run(
            [str(HOLDFAST), *words, "-o", "json"],
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
        )
        return json.loads(done.stdout)


@contextmanager
def background(demo: Demo, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A holdfast program in the background; its log goes to a file of the demo's folder."""
    console.print(f"[bold cyan]$ holdfast {' '.join(words)} &[/]", highlight=False, soft_wrap=True)
    with (demo.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(HOLDFAST), *words], env=demo.environment, stdout=log, stderr=subprocess.STDOUT
        )
    demo.programs[name] = process
    try:
        yield process
    finally:
        del demo.programs[name]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise SystemExit(f"demo: the server stopped at once:\n{log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("demo: the server did not answer in time")


def fill_scratch(demo: Demo) -> None:
    """Copies of some of SOURCE's files, so that there is something we may edit."""
    demo.scratch.mkdir()
    taken = 0
    for folder, _, names in os.walk(demo.source):
        for name in sorted(names)[:8]:
            path = Path(folder, name)
            if taken < SCRATCH_FILES and path.is_file() and not path.is_symlink():
                target = demo.scratch / path.relative_to(demo.source)
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    shutil.copy2(path, target)
                except OSError:
                    continue
                taken += 1
        if taken >= SCRATCH_FILES:
            return
    (demo.scratch / "a-note.txt").write_text("Holdfast demo\n")


def change_scratch(demo: Demo) -> str:
    """What a day does to a folder: edit, add, rename, delete."""
    files = sorted(path for path in demo.scratch.rglob("*") if path.is_file())
    edited, renamed, deleted = files[0:20], files[20:25], files[25:35]
    for path in edited:
        path.chmod(path.stat().st_mode | 0o200)
        with path.open("ab") as out:
            out.write(b"\nedited by the demo\n")
    for path in renamed:
        path.rename(path.with_name(path.name + ".renamed"))
    for path in deleted:
        path.unlink()
    added = demo.scratch / "added"
    added.mkdir()
    for number in range(10):
        (added / f"new-{number}.txt").write_text(f"new file {number}\n" * 1000)
    return f"{len(edited)} edited, 10 added, {len(renamed)} renamed, {len(deleted)} deleted"


def set_up(demo: Demo, port: int) -> None:
    server = demo.folder / "server"
    demo.run(
        "login",
        *("--server", f"https://127.0.0.1:{port}"),
        *("--ca", str(server / "ca.pem"), "--credentials", str(server / "admin.json")),
    )
    demo.run("vault", "create", VAULT, "-g", GROUP)
    demo.run("policy", "list")
    credentials = demo.folder / "vault-credentials.json"
    demo.run("vault", "credentials", VAULT, "-g", GROUP, "-o", str(credentials))
    agent = str(demo.folder / "agent")
    demo.run("agent", "enroll", "--credentials", str(credentials), "--data", agent, "--name", HOST)


def back_up(demo: Demo, title: str) -> None:
    started = time.monotonic()
    demo.run("backup", "now", "--item", ITEM, "--container", HOST, "--wait")
    seconds = time.monotonic() - started
    facts = newest_point(demo)["properties"]["holdfast"]
    demo.figures.append(
        (title, seconds, facts["logicalBytes"], facts["transferredBytes"], facts["storedBytes"])
    )


def newest_point(demo: Demo) -> dict[str, Any]:
    points = demo.ask("recovery-point", "list", "--item", ITEM, "--container", HOST)
    return max(points, key=lambda point: point["properties"]["recoveryPointTime"])


def restore_and_compare(demo: Demo, before: Inventory) -> bool:
    started = time.monotonic()
    words = ["restore", "--item", ITEM, "--container", HOST, "--recovery-point", "latest"]
    demo.run(*words, "--to", str(demo.restored), "--wait")
    seconds = time.monotonic() - started
    logical = newest_point(demo)["properties"]["holdfast"]["logicalBytes"]
    demo.figures.append(("restore", seconds, logical, 0, 0))
    console.print("comparing every byte and attribute with the inventory taken at backup time")
    after = take_inventory(
        [demo.restored / str(path).lstrip("/") for path in (demo.source, demo.scratch)]
    )
    difference = compare_inventories(
        before, after, strip_right=str(demo.restored), owners=os.geteuid() == 0
    )
    for line in difference.unreadable[:10]:
        console.print(f"  not readable, so not protected: {line}", highlight=False)
    for line in difference.lines[:20]:
        console.print(f"  [red]differs:[/] {line}", highlight=False)
    console.print(
        f"{difference.compared:,} entries compared, {len(difference.lines)} differ, "
        f"{len(difference.unreadable)} could not be read at the source"
    )
    return not difference.lines


def closing_table(demo: Demo) -> None:
    table = Table(title="What it took")
    for column in ("step", "seconds", "MB/s", "logical MB", "sent MB", "stored MB", "saved"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for title, seconds, logical, sent, stored in demo.figures:
        saved = f"{1 - stored / logical:.0%}" if stored and logical else ""
        table.add_row(
            title,
            f"{seconds:.1f}",
            f"{logical / 1e6 / seconds:.0f}",
            f"{logical / 1e6:,.1f}",
            f"{sent / 1e6:,.1f}" if sent else "",
            f"{stored / 1e6:,.1f}" if stored else "",
            saved,
        )
    console.print(table)


def next_steps() -> None:
    console.print("[bold]To keep a server of your own, type next:[/]")
    for line in (
        "  .venv/bin/holdfast server start --data ./holdfast-data",
        "  .venv/bin/holdfast login --server https://127.0.0.1:8443 "
        "--ca ./holdfast-data/ca.pem --credentials ./holdfast-data/admin.json",
        "  .venv/bin/holdfast vault create first -g mine",
        "  .venv/bin/holdfast vault export-key first -g mine -o first.key",
        "  .venv/bin/holdfast --help",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def main_job(demo: Demo) -> bool:
    fill_scratch(demo)
    port = free_port()
    start = ("server", "start", "--data", str(demo.folder / "server"))
    with background(demo, "server", *start, "--listen", f"127.0.0.1:{port}") as server:
        wait_until_listening(port, server, demo.folder / "server.log")
        set_up(demo, port)
        with background(demo, "agent", "agent", "start", "--data", str(demo.folder / "agent")):
            includes = ("--include", str(demo.source), "--include", str(demo.scratch))
            demo.run(
                *("item", "protect", ITEM, "--container", HOST, *includes),
                *("--policy", POLICY),
            )
            back_up(demo, "first backup")
            console.print(f"changing the scratch folder: {change_scratch(demo)}")
            before = take_inventory([demo.source, demo.scratch])
            back_up(demo, "incremental backup")
            demo.run("recovery-point", "list", "--item", ITEM, "--container", HOST)
            return restore_and_compare(demo, before)


def main() -> int:
    parser = argparse.ArgumentParser(description="run the main job on real input")
    parser.add_argument("--source", type=Path, default=Path("/usr/share"))
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    arguments = parser.parse_args()
    source = arguments.source.resolve()
    if not source.is_dir():
        print(f"demo: {source} is not a folder; say make demo SOURCE=DIR", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        demo = Demo(source, folder)
        same = main_job(demo)
        closing_table(demo)
        next_steps()
    finally:
        if arguments.keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            console.print("nothing was left running, and nothing was left behind")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
