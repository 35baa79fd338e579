"""holdfast vm instant, migrate, test: machines that run from the vault."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from holdfast.cli import follow, options, show
from holdfast.cli.api import Scope, find_scope
from holdfast.cli.storage_accounts import path_of
from holdfast.errors import UsageError
from holdfast.files import names, write_whole
from holdfast.ports.vm_tasks import SERVE_PHASE

LOOK_SECONDS = 0.3


def _start(scope: Scope, vm: str, what: str, asked: dict[str, Any]) -> str:
    """The job's id."""
    address = f"{scope.ours}/virtualMachines/{quote(vm, safe='')}/{what}"
    answer = scope.api.call("POST", address, {"properties": asked})
    return follow.job_id_of(scope, answer.headers)


@click.command()
@click.argument("vm")
@click.option("--recovery-point", "point", required=True, help="Id, or latest.")
@click.option("--name", help="Of the machine that is started (default: VM-instant).")
@click.option("--container", help="Host that runs it (default: the machine's own).")
@options.wait
@options.vault
@options.output
def instant(
    vm: str,
    point: str,
    name: str | None,
    container: str | None,
    wait: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Run a recovery point from the vault at once, as a new machine without a network.

    It writes into files of its host; what it has not written is read from the vault. The job lasts
    until its disks are moved (holdfast vm migrate) or it is cancelled, which ends the machine and
    removes it. --wait waits until its guest answers. Asked again with the same name, a machine
    that had ended goes on with what it wrote.

    \b
    Example:
      holdfast vm instant web --recovery-point latest --name web-now --wait
    """
    scope = find_scope(group, vault)
    asked = {"recoveryPointId": point, "name": name, "container": container}
    job = _start(scope, vm, "instantRestore", asked)
    if not wait:
        return follow.follow(scope, job, wait=False, output=output)
    body = _until_it_runs(scope, job)
    if body["properties"]["status"] in follow.ENDED:
        return follow.follow(scope, job, wait=True, output=output)
    if output == "json":
        show.emit_json(body)
        return 0
    click.echo(show.plain(str(show.prop("holdfast", "detail")(body))))
    ready = (show.prop("holdfast", "progress")(body) or {}).get("guestReadySeconds")
    if ready is not None:
        click.echo(f"  from the request to the guest's first answer: {ready:.1f} s")
    made = name or f"{vm}-instant"
    click.echo(
        f"  make it independent of the vault: holdfast vm migrate {made} --to STORAGE{scope.flags}"
    )
    click.echo(f"  end it and remove it: holdfast job cancel {job}{scope.flags}")
    return 0


def _until_it_runs(scope: Scope, job: str) -> Any:
    while True:
        body = scope.api.get(scope.job(job))
        progress = show.prop("holdfast", "progress")(body) or {}
        ended = body["properties"]["status"] in follow.ENDED
        if ended or progress.get("phase") == SERVE_PHASE:
            return body
        time.sleep(LOOK_SECONDS)


@click.command()
@click.argument("name")
@click.option("--to", "storage", required=True, metavar="STORAGE", help="Folder of its host.")
@options.wait
@options.vault
@options.output
def migrate(
    name: str, storage: str, wait: bool, group: str | None, vault: str | None, output: str
) -> int:
    """Move the disks of a machine that runs from the vault to its host, while it runs.

    Afterwards it needs the vault no more, and the job that ran it is completed. Cancelled, it runs
    from the vault as before.

    \b
    Example:
      holdfast vm migrate web-now --to restored --wait
    """
    scope = find_scope(group, vault)
    job = _start(scope, name, "migrate", {"storageAccountId": path_of(scope, storage)})
    return follow.follow(scope, job, wait=wait, output=output)


@click.command()
@click.argument("vm")
@click.option("--recovery-point", "point", required=True, help="Id, or latest.")
@click.option("--script", type=options.FILE, help="Shell script to run in the guest; 0 passes.")
@click.option("--timeout", type=click.IntRange(1, 7200), help="Seconds (default: 300).")
@click.option("--container", help="Host that runs it (default: the machine's own).")
@click.option("--show", "only_show", is_flag=True, help="Show the report of the last test.")
@click.option("--screenshot", type=options.FILE, help="Write the screen as it was, as PNG.")
@options.wait
@options.vault
@options.output
def test(
    vm: str,
    point: str,
    script: Path | None,
    timeout: int | None,
    container: str | None,
    only_show: bool,
    screenshot: Path | None,
    wait: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Test a recovery point: start it without a network, ask its guest, throw it away.

    The report, with a picture of the screen, is kept on the recovery point.

    \b
    Example:
      holdfast vm test web --recovery-point latest --script probe.sh --wait
      holdfast vm test web --recovery-point latest --show --screenshot screen.png
    """
    if screenshot is not None and not (wait or only_show):
        raise click.UsageError("--screenshot is for --wait and --show")
    scope, code = find_scope(group, vault), 0
    if not only_show:
        asked = {"recoveryPointId": point, "timeoutSeconds": timeout, "container": container}
        asked["script"] = _read(script) if script is not None else None
        job = _start(scope, vm, "testRestore", asked)
        code = follow.follow(scope, job, wait=wait, output=output)
    if only_show or screenshot is not None:
        machine = f"{scope.ours}/virtualMachines/{quote(vm, safe='')}"
        body = scope.api.get(f"{machine}/restoreTests/{quote(point, safe='')}")
        picture = body["properties"].pop("screenshot", "")
        if screenshot is not None:
            write_whole(screenshot, base64.b64decode(picture))
        if only_show:
            show.emit(body, output, REPORT)
    return code


REPORT: list[show.Column] = [
    ("recovery point", lambda row: row["name"]),
    ("tested (UTC)", show.when("time")),
    ("passed", show.prop("passed")),
    ("guest answered after (s)", show.prop("readySeconds")),
    ("script ended with", show.prop("exitCode")),
    ("reason", show.prop("reason")),
    ("output", show.prop("output")),
]


def _read(script: Path) -> str:
    """UsageError (InvalidRestoreTest)."""
    try:
        with names(script):
            return script.read_text()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the script {script} cannot be read: {error}",
            code="InvalidRestoreTest",
            hint="give a readable file of text",
        ) from error
