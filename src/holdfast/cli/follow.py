"""Following a job: bars on a terminal, plain lines otherwise, then how it ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import click

from holdfast.cli.api import FAILED, UNREACHABLE, Scope
from holdfast.cli.show import Body, emit_json, plain, prop, size
from holdfast.errors import HoldfastError

POLL_SECONDS = 0.05  # between questions, which the server holds back until the job has ended
WAIT_SECONDS = "1"
FIRST_SECONDS, PLAIN_SECONDS = 1.0, 5.0
PATIENCE_SECONDS = 180.0  # how long a server may be away while a job is followed
AWAY_SECONDS = 0.5  # between questions to a server that is away
SHOWN_FINDINGS = 10
STANDING = ("Waiting", "Retrying")  # phases whose reason says more
ENDED = {"Completed": 0, "CompletedWithWarnings": 3, "Failed": 1, "Cancelled": 1}


def job_id_of(scope: Scope, headers: Any) -> str:
    """The job behind a 202, which goes on whatever becomes of the server meanwhile."""
    operation = headers["Azure-AsyncOperation"].partition("?")[0].rpartition("/")[2]
    address = f"{scope.path}/backupOperations/{operation}"
    body = _patiently(lambda: scope.api.get(address), lambda text: click.echo(text, err=True))
    return str((body.get("properties") or {}).get("jobId") or "")


def follow(scope: Scope, job_id: str, *, wait: bool, output: str) -> int:
    """Show a started job, and its progress with ``wait``; the exit code."""
    if not wait:
        if output == "json":
            emit_json(scope.api.get(scope.job(job_id)))
        else:
            click.echo(f"job {job_id} started; follow it: holdfast job wait {job_id}{scope.flags}")
        return 0
    try:
        body = _watch(scope, job_id, quiet=output == "json")
    except KeyboardInterrupt:
        click.echo(
            f"\ndetached; the job goes on. Follow it: holdfast job wait {job_id}{scope.flags}\n"
            f"cancel it: holdfast job cancel {job_id}{scope.flags}",
            err=True,
        )
        return 1
    if output == "json":
        emit_json(body)
    else:
        summary(body)
    return ENDED.get(body["properties"]["status"], 1)


class Painter(Protocol):
    """Shows a job while it runs."""

    def show(self, body: Body) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


def _watch(scope: Scope, job_id: str, *, quiet: bool) -> Body:
    painter: Painter = Bars() if sys.stderr.isatty() and not quiet else Lines(quiet=quiet)
    try:
        while True:
            body = _ask(scope, job_id, painter)
            painter.show(body)
            if body["properties"]["status"] in ENDED:
                return body
            time.sleep(POLL_SECONDS)
    finally:
        painter.close()


def _ask(scope: Scope, job_id: str, painter: Painter) -> Body:
    """The job."""
    asked = {"waitSeconds": WAIT_SECONDS}
    return _patiently(lambda: scope.api.get(scope.job(job_id), asked), painter.say)


def _patiently(ask: Callable[[], Body], say: Callable[[str], None]) -> Body:
    """The answer; a server that is away is asked again for a while."""
    give_up, told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            return ask()
        except HoldfastError as error:
            if error.code not in (UNREACHABLE, FAILED) or time.monotonic() > give_up:
                raise
            if not told:
                say("the server does not answer; asking again")
            told = True
            time.sleep(AWAY_SECONDS)


def progress_text(body: Body) -> str:
    """Items, files and bytes done, sent, and the speed."""
    one: Body = prop("holdfast", "progress")(body) or {}
    parts = []
    if one.get("totalItems"):
        parts.append(f"{one.get('doneItems') or 0:,} of {one['totalItems']:,} items")
    if one.get("doneFiles"):
        total = f" of {one['totalFiles']:,}" if one.get("totalFiles") else ""
        parts.append(f"{one['doneFiles']:,}{total} files")
    if one.get("doneBytes"):
        total = f" of {size(one['totalBytes'])}" if one.get("totalBytes") else ""
        parts.append(f"{size(one['doneBytes'])}{total}")
    if one.get("transferredBytes"):
        word = "received" if body["properties"].get("operation") == "Restore" else "sent"
        parts.append(f"{word} {size(one['transferredBytes'])}")
    if one.get("bytesPerSecond"):
        parts.append(f"{size(one['bytesPerSecond'])}/s")
    return ", ".join(parts)


def _phase(body: Body) -> str:
    """What it does now; while it waits, for what and why."""
    one: Body = prop("holdfast", "progress")(body) or {}
    phase, detail = one.get("phase"), prop("holdfast", "detail")(body)
    if phase in STANDING and detail:
        advice = [one for of in prop("errorDetails")(body) or [] for one in of["recommendations"]]
        return "; what to do: ".join([str(detail), *advice[:1]])
    return str(phase or detail or body["properties"]["status"])


class Lines:
    """Plain lines, of jobs that take a while: one per phase, and one every few seconds."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._next = time.monotonic() + FIRST_SECONDS
        self._phase = ""

    def show(self, body: Body) -> None:
        phase, now = _phase(body), time.monotonic()
        changed = bool(self._phase) and phase != self._phase
        if body["properties"]["status"] in ENDED or (now < self._next and not changed):
            return
        self._phase, self._next = phase, now + PLAIN_SECONDS
        text = progress_text(body)
        self.say(f"{phase}: {text}" if text else phase)

    def say(self, text: str) -> None:
        if not self._quiet:
            click.echo(plain(text), err=True)

    def close(self) -> None:
        """Nothing is open."""


class Bars:
    """A live line on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[done]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, done="")
        self._progress.start()

    def show(self, body: Body) -> None:
        one: Body = prop("holdfast", "progress")(body) or {}
        self._progress.update(
            self._task,
            description=plain(_phase(body)),
            total=one.get("totalBytes") or one.get("totalItems"),
            completed=one.get("doneBytes") or one.get("doneItems") or 0,
            done=progress_text(body),
        )

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=plain(text))

    def close(self) -> None:
        self._progress.stop()


def summary(body: Body) -> None:
    """How a job ended, in a few lines."""
    properties = body["properties"]
    ours = properties.get("holdfast") or {}
    took = seconds_text(properties.get("duration"))
    status = f"{properties['operation']} of {plain(str(properties['entityFriendlyName']))}: "
    click.echo(f"{status}{properties['status']}{f' in {took}' if took else ''}")
    figures = _figures(ours.get("result") or {})
    if figures:
        click.echo("  " + ", ".join(figures))
    show_findings((ours.get("findings") or [])[:SHOWN_FINDINGS])
    count = ours.get("findingsCount") or 0
    if count > SHOWN_FINDINGS:
        click.echo(f"  ... {count:,} findings in all: holdfast job show {body['name']}")
    for error in properties.get("errorDetails") or []:
        advice = error.get("recommendations") or [f"holdfast job show {body['name']}"]
        click.echo(f"error: {plain(str(error['errorString']))}", err=True)
        code = ours.get("errorCode") or error.get("errorCode") or error.get("errorTitle")
        click.echo(f"code: {code}", err=True)
        click.echo(f"what to do: {plain(str(advice[0]))}", err=True)


def seconds_text(duration: Any) -> str:
    """``PT12.345S`` as "12.3 s", longer ones as "5 min 2 s" or "3 h 7 min"."""
    try:
        found = float(str(duration).removeprefix("PT").removesuffix("S"))
    except ValueError:
        return ""
    if found < 120:
        return f"{found:.1f} s"
    minutes, seconds = divmod(round(found), 60)
    return (
        f"{minutes} min {seconds} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
    )


def _figures(result: Body) -> list[str]:
    parts = []
    if result.get("filesRestored") is not None:
        word = "would be restored" if result.get("dryRun") else "restored"
        parts.append(f"{result['filesRestored']:,} files {word}")
    if result.get("recoveryPointId"):
        parts.append(f"recovery point {result['recoveryPointId']}")
    for key, name in (("logicalBytes", "logical"), ("transferredBytes", "sent"),
                      ("storedBytes", "stored"), ("freedBytes", "freed")):  # fmt: skip
        if result.get(key) is not None:
            parts.append(f"{name} {size(result[key])}")
    for key, name in (("filesSkipped", "files left as they are"),
                      ("droppedPoints", "recovery points dropped")):  # fmt: skip
        if result.get(key):
            parts.append(f"{result[key]:,} {name}")
    return parts


def show_findings(findings: list[Body]) -> None:
    """One line each."""
    for one in findings:
        click.echo(f"  {one['code']}: {plain(str(one['path']))}: {plain(str(one['message']))}")
