"""Showing answers: tables for people, the API's JSON for programs, progress while a job runs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from holdfast.cli.api import Scope
from holdfast.errors import HoldfastError

Body = dict[str, Any]
Column = tuple[str, Callable[[Body], Any]]
POLL_SECONDS = 0.3
PLAIN_SECONDS = 5.0
ENDED = {"Completed": 0, "CompletedWithWarnings": 3, "Failed": 1, "Cancelled": 1}


def emit_json(body: Any) -> None:
    click.echo(json.dumps(body, indent=2))


def emit(body: Any, output: str, columns: Sequence[Column]) -> None:
    """One body or a list of them."""
    if output == "json":
        emit_json(body)
        return
    rows = body if isinstance(body, list) else [body]
    table([name for name, _ in columns], [[read(row) for _, read in columns] for row in rows])


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns aligned by width; numbers to the right."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [
        max([len(name), *(len(row[number]) for row in texts)]) for number, name in enumerate(names)
    ]
    right = [bool(rows) and all(isinstance(row[n], int | float) for row in rows)
             for n in range(len(names))]  # fmt: skip
    lines = [list(names), ["-" * width for width in widths], *texts]
    for line in lines:
        cells = [
            cell.rjust(widths[n]) if right[n] else cell.ljust(widths[n])
            for n, cell in enumerate(line)
        ]
        click.echo("  ".join(cells).rstrip())


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def size(count: int | None) -> str:
    """Bytes in decimal units."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return ""


def moment(text: str | None) -> str:
    """A time of the API, to the second, UTC."""
    return (text or "")[:19].replace("T", " ")


def prop(*path: str) -> Callable[[Body], Any]:
    """Reads a value below ``properties``."""

    def read(row: Body) -> Any:
        found: Any = row.get("properties") or {}
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    return read


def job_id_of(scope: Scope, headers: Any) -> str:
    """The job behind a 202."""
    operation = headers["Azure-AsyncOperation"].partition("?")[0].rpartition("/")[2]
    body = scope.api.get(f"{scope.path}/backupOperations/{operation}")
    return str((body.get("properties") or {}).get("jobId") or "")


def follow(scope: Scope, job_id: str, *, wait: bool, output: str) -> int:
    """Show a started job, and its progress with ``wait``; the exit code."""
    path = f"{scope.path}/backupJobs/{job_id}"
    if not wait:
        body = scope.api.get(path)
        if output == "json":
            emit_json(body)
        else:
            click.echo(f"job {job_id} started; follow it: holdfast job wait {job_id}")
        return 0
    try:
        body = _watch(scope, path, quiet=output == "json")
    except KeyboardInterrupt:
        click.echo(
            f"\ndetached; the job goes on. Follow it: holdfast job wait {job_id}\n"
            f"cancel it: holdfast job cancel {job_id}",
            err=True,
        )
        return 1
    if output == "json":
        emit_json(body)
    else:
        summary(body)
    return ENDED.get(body["properties"]["status"], 1)


def _watch(scope: Scope, path: str, *, quiet: bool) -> Body:
    painter = _Bars() if sys.stderr.isatty() and not quiet else _Lines(quiet=quiet)
    failures = 0
    with painter:
        while True:
            try:
                body: Body = scope.api.get(path)
                failures = 0
            except HoldfastError as error:
                failures += 1
                if error.code != "ServerUnreachable" or failures > 200:
                    raise
                time.sleep(POLL_SECONDS)
                continue
            painter.show(body)
            if body["properties"]["status"] in ENDED:
                return body
            time.sleep(POLL_SECONDS)


def _figures(body: Body) -> Body:
    found: Body = prop("holdfast", "progress")(body) or {}
    return found


class _Lines:
    """Plain lines, a few per minute."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._next = time.monotonic() + PLAIN_SECONDS

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, body: Body) -> None:
        if self._quiet or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PLAIN_SECONDS
        one = _figures(body)
        done = f"{one.get('doneFiles') or 0:,} files, {size(one.get('doneBytes') or 0)}"
        click.echo(f"{one.get('phase', '')}: {done}; {prop('holdfast', 'detail')(body)}", err=True)


class _Bars:
    """A live line on a terminal."""

    def __enter__(self) -> _Bars:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, done="")
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, body: Body) -> None:
        one = _figures(body)
        files, count = one.get("doneFiles") or 0, one.get("doneBytes") or 0
        sent = one.get("transferredBytes") or 0
        done = f"{files:,} files  {size(count)}  sent {size(sent)}"
        self._progress.update(
            self._task,
            description=str(one.get("phase") or body["properties"]["status"]),
            total=one.get("totalBytes"),
            completed=count,
            done=done,
        )


def summary(body: Body) -> None:
    """How a job ended, in a few lines."""
    properties = body["properties"]
    ours = properties.get("holdfast") or {}
    result = ours.get("result") or {}
    click.echo(f"{properties['operation']} of {properties['entityFriendlyName']}: "
               f"{properties['status']}")  # fmt: skip
    parts = []
    for key, name in (("logicalBytes", "logical"), ("transferredBytes", "sent"),
                      ("storedBytes", "stored")):  # fmt: skip
        if result.get(key) is not None:
            parts.append(f"{name} {size(result[key])}")
    if result.get("recoveryPointId"):
        parts.insert(0, f"recovery point {result['recoveryPointId']}")
    if result.get("filesRestored") is not None:
        word = "would be restored" if result.get("dryRun") else "restored"
        parts.insert(0, f"{result['filesRestored']:,} files {word}")
        parts.append(f"{result.get('filesSkipped') or 0:,} left as they are")
    if parts:
        click.echo("  " + ", ".join(parts))
    for one in (ours.get("findings") or [])[:10]:
        click.echo(f"  {one['code']}: {one['path']}: {one['message']}")
    count = ours.get("findingsCount") or 0
    if count > 10:
        click.echo(f"  ... {count:,} findings in all: holdfast job show {body['name']}")
    for error in properties.get("errorDetails") or []:
        click.echo(f"error: {error['errorString']}", err=True)
        click.echo(f"code: {error['errorCode']}", err=True)
        hint = (error.get("recommendations") or ["look at holdfast job show " + body["name"]])[0]
        click.echo(f"what to do: {hint}", err=True)
