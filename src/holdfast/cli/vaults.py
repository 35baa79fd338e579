"""holdfast vault ..."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from holdfast.cli import options, show
from holdfast.cli.api import Scope, find_scope
from holdfast.cli.profile import remember
from holdfast.errors import HoldfastError, NotFoundError, UsageError
from holdfast.files import write_whole

COLUMNS: list[show.Column] = [
    ("name", lambda row: row["name"]),
    ("resource group", lambda row: row["id"].split("/")[4]),
    ("location", lambda row: row["location"]),
]
FILE = click.Path(path_type=Path, dir_okay=False)
_SPAN = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group()
def command() -> None:
    """Vaults and their upkeep.

    \b
    Example:
      holdfast vault create office -g home
    """


def _named(name: str, group: str | None) -> Scope:
    return find_scope(group, name)


def ensure_group(scope: Scope, location: str = "local") -> None:
    """Resource groups are created on first use."""
    try:
        scope.api.get(scope.group_path)
    except NotFoundError:
        scope.api.call("PUT", scope.group_path, {"location": location})


@command.command()
@click.argument("name")
@options.group
@click.option("-l", "--location", default="local", show_default=True, help="Region.")
@options.output
def create(name: str, group: str | None, location: str, output: str) -> None:
    """Create a vault; its resource group is made when needed.

    \b
    Example:
      holdfast vault create office -g home -l local
    """
    scope = _named(name, group)
    ensure_group(scope, location)
    body = scope.api.call("PUT", scope.path, {"location": location, "properties": {}}).body
    remember(scope.group, name)
    show.emit(body, output, COLUMNS)
    if output == "table":
        click.echo(f"export its recovery key now: holdfast vault export-key {name} "
                   f"-g {scope.group} -o {name}.key")  # fmt: skip


@command.command("list")
@options.group
@options.output
def list_(group: str | None, output: str) -> None:
    """List vaults, of one resource group or of all.

    \b
    Example:
      holdfast vault list -o json
    """
    from holdfast.cli.api import Api

    api = Api()
    base = f"/subscriptions/{api.subscription()}"
    if group:
        base += f"/resourceGroups/{quote(group)}"
    rows = api.listed(f"{base}/providers/Microsoft.RecoveryServices/vaults")
    show.emit(rows, output, COLUMNS)


@command.command("show")
@click.argument("name")
@options.group
@options.output
def show_(name: str, group: str | None, output: str) -> None:
    """Show a vault, its figures and warnings.

    \b
    Example:
      holdfast vault show office -g home
    """
    body = _named(name, group).api.get(_named(name, group).path)
    if output == "json":
        show.emit_json(body)
        return
    ours = body["properties"].get("holdfast") or {}
    show.emit(body, output, COLUMNS)
    click.echo(f"vault id: {ours.get('vaultId')}\nstore: {ours.get('storeUrl')}")
    if ours.get("storedBytes") is not None:
        stored = show.size(ours["storedBytes"])
        click.echo(f"recovery points: {ours['recoveryPoints']}, stored: {stored}")
    for warning in ours.get("warnings") or []:
        click.echo(f"warning: {warning}", err=True)


@command.command()
@click.argument("name")
@options.group
@click.option("--tag", "tags", multiple=True, help="KEY=VALUE; replaces all tags.")
@click.option("--properties", help="JSON merged into the vault's properties.")
@options.output
def update(
    name: str, group: str | None, tags: tuple[str, ...], properties: str | None, output: str
) -> None:
    """Change a vault's tags or properties.

    \b
    Example:
      holdfast vault update office -g home --tag owner=ann
    """
    scope = _named(name, group)
    body: dict[str, Any] = {}
    if tags:
        body["tags"] = dict(tag.partition("=")[::2] for tag in tags)
    if properties:
        try:
            body["properties"] = json.loads(properties)
        except ValueError as error:
            raise click.UsageError(f"--properties is no JSON: {error}") from error
    show.emit(scope.api.call("PATCH", scope.path, body).body, output, COLUMNS)


@command.command()
@click.argument("name")
@options.group
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, group: str | None, yes: bool) -> None:
    """Delete an empty vault.

    \b
    Example:
      holdfast vault delete office -g home --yes
    """
    scope = _named(name, group)
    if not yes:
        click.confirm(f"Delete vault {name}?", abort=True, err=True)
    status = scope.api.call("DELETE", scope.path).status
    click.echo("deleted" if status == 202 else "there was no such vault")


def parse_span(text: str) -> int:
    """Seconds of 48h, 30m, 7d, 0s. UsageError."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise click.UsageError(f"{text!r} is no time span; give e.g. 48h, 30m or 7d")
    return int(match.group(1)) * _UNITS[match.group(2)]


@command.command()
@click.argument("name")
@options.group
@click.option("-o", "--output-file", "target", required=True, type=FILE, help="File to write.")
@click.option("--expires", default="48h", show_default=True, help="How long it can be used.")
def credentials(name: str, group: str | None, target: Path, expires: str) -> None:
    """Write an enrolment file for agents of this vault.

    \b
    Example:
      holdfast vault credentials office -g home -o office-credentials.json
    """
    scope = _named(name, group)
    asked = {"properties": {"expiresInSeconds": parse_span(expires)}}
    body = scope.api.call("POST", f"{scope.ours}/createVaultCredentials", asked).body
    found = body["properties"]
    write_whole(target, json.dumps(found["credentials"], indent=2).encode())
    click.echo(f"wrote {target}; it can be used until {show.moment(found['expiresAt'])} UTC")


@command.command("export-key")
@click.argument("name")
@options.group
@click.option("-o", "--output-file", "target", required=True, type=FILE, help="File to write.")
@options.passphrase_file
def export_key(name: str, group: str | None, target: Path, passphrase_file: Path | None) -> None:
    """Write the recovery key, protected by a passphrase. Keep both away from the server.

    \b
    Example:
      holdfast vault export-key office -g home -o office.key
    """
    scope = _named(name, group)
    phrase = options.read_passphrase(passphrase_file, confirm=True)
    asked = {"properties": {"passphrase": phrase}}
    body = scope.api.call("POST", f"{scope.ours}/exportKey", asked).body
    write_whole(target, base64.b64decode(body["properties"]["keyFile"]))
    click.echo(f"wrote {target}; it opens the vault with its passphrase, later keys too")


@command.command("import")
@click.option("--store", "store", help="Address of the store that holds the vault.")
@click.option("--path", type=click.Path(path_type=Path), help="The vault's folder.")
@click.option("--key", "key", required=True, type=FILE, help="The exported key file.")
@options.group
@click.option("--name", default="", help="Name of the vault here.")
@options.passphrase_file
@options.output
def import_(
    store: str | None,
    path: Path | None,
    key: Path,
    group: str | None,
    name: str,
    passphrase_file: Path | None,
    output: str,
) -> None:
    """Bring a vault in by its exported key: items and recovery points are rebuilt.

    \b
    Example:
      holdfast vault import --path /srv/old/vaults/ID --key office.key -g home
    """
    if (store is None) == (path is None):
        raise click.UsageError("give either --store URL or --path DIR")
    scope = find_scope(group, name or None, need_vault=False)
    try:
        key_file = base64.b64encode(key.read_bytes()).decode()
    except OSError as error:
        raise UsageError(
            f"{key} cannot be read: {error.strerror}", code="FileUnreadable", hint="check the path"
        ) from error
    asked = {
        "storeUrl": store,
        "path": str(path.absolute()) if path else None,
        "keyFile": key_file,
        "passphrase": options.read_passphrase(passphrase_file),
        "name": name or scope.vault,
    }
    where = f"{scope.group_path}/providers/Holdfast.Backup/importVault"
    answer = scope.api.call("POST", where, {"properties": asked})
    made = answer.headers["Azure-AsyncOperation"].partition("/vaults/")[2].partition("/")[0]
    found = Scope(scope.api, scope.group, made)
    code = show.follow(found, show.job_id_of(found, answer.headers), wait=True, output=output)
    if code == 0 and output == "table":
        click.echo(f"the vault is {made} in {scope.group}")
    raise SystemExit(code)


def _upkeep(kind: str, name: str, group: str | None, plan: bool, output: str) -> None:
    scope = _named(name, group)
    body = {"properties": {"planOnly": plan}}
    answer = scope.api.call("POST", f"{scope.ours}/{kind}", body)
    if not plan:
        job = show.job_id_of(scope, answer.headers)
        raise SystemExit(show.follow(scope, job, wait=True, output=output))
    found = answer.body["properties"]
    if output == "json":
        show.emit_json(answer.body)
        return
    rows = found["plan"]
    if rows:
        names = list(rows[0])
        show.table(names, [[row[one] for one in names] for row in rows])
    else:
        click.echo("nothing to show; this is what a run would look at:")
        show.table(["figure", "value"], [[k, v] for k, v in found.items() if k != "plan"])


def _make(kind: str, text: str) -> None:
    @command.command(kind, help=f"{text}\n\n\b\nExample:\n  holdfast vault {kind} office -g home")
    @click.argument("name")
    @options.group
    @click.option("--plan", is_flag=True, help="Only show what it would do.")
    @options.output
    def run(name: str, group: str | None, plan: bool, output: str) -> None:
        _upkeep(kind, name, group, plan, output)


_make("verify", "Decrypt, decompress and recompute everything the vault holds.")
_make("expire", "Drop recovery points whose time is over.")
_make("collect", "Free what no recovery point needs.")


@command.command("confirm-clock")
@click.argument("name")
@options.group
def confirm_clock(name: str, group: str | None) -> None:
    """Say that the server's clock is right, so that expire and collect go on.

    \b
    Example:
      holdfast vault confirm-clock office -g home
    """
    scope = _named(name, group)
    scope.api.call("POST", f"{scope.ours}/confirmClock", {"properties": {}})
    click.echo("confirmed")


__all__ = ["HoldfastError", "command"]
