"""holdfast vault credentials, export-key, import: what lets machines and other servers in."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path

import click

from holdfast.cli import follow, options, show
from holdfast.cli.api import find_scope
from holdfast.cli.new_files import check_new
from holdfast.files import read_small, write_whole

_SPAN = re.compile(r"(\d{1,9})\s*([smhd])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_span(text: str) -> int:
    """Seconds of 48h, 30m, 7d, 0s. click.UsageError."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise click.UsageError(f"{text!r} is no time span; give e.g. 48h, 30m or 7d")
    return int(match.group(1)) * _UNITS[match.group(2)]


def is_enrolment(path: Path) -> bool:
    """Whether a file is an enrolment file, which newer ones may replace."""
    try:
        return path.is_file() and {"server", "ca", "token"} <= set(json.loads(read_small(path)))
    except (OSError, ValueError, TypeError):
        return False


@click.command()
@click.argument("name")
@options.group
@click.option("-o", "--output-file", "target", required=True, type=options.FILE, help="To write.")
@click.option("--expires", default="48h", show_default=True, help="How long it can be used.")
def credentials(name: str, group: str | None, target: Path, expires: str) -> None:
    """Write an enrolment file for agents of this vault.

    \b
    Example:
      holdfast vault credentials office -g home -o office-credentials.json
    """
    asked = {"properties": {"expiresInSeconds": parse_span(expires)}}
    scope = find_scope(group, name)
    if not is_enrolment(target):
        check_new(target, "something else")
    body = scope.api.call("POST", f"{scope.ours}/createVaultCredentials", asked).body
    found = body["properties"]
    write_whole(target, json.dumps(found["credentials"], indent=2).encode())
    click.echo(f"wrote {target}; it can be used until {show.moment(found['expiresAt'])} UTC")


@click.command("export-key")
@click.argument("name")
@options.group
@click.option("-o", "--output-file", "target", required=True, type=options.FILE, help="To write.")
@options.passphrase_file
def export_key(name: str, group: str | None, target: Path, passphrase_file: Path | None) -> None:
    """Write the recovery key, protected by a passphrase. Keep both away from the server.

    \b
    Example:
      holdfast vault export-key office -g home -o office.key
    """
    scope = find_scope(group, name)
    check_new(target, "the key of another vault")
    phrase = options.read_passphrase(passphrase_file, confirm=True)
    asked = {"properties": {"passphrase": phrase}}
    body = scope.api.call("POST", f"{scope.ours}/exportKey", asked).body
    write_whole(target, base64.b64decode(body["properties"]["keyFile"]))
    click.echo(f"wrote {target}; it opens the vault with its passphrase, later keys too")


@click.command("import")
@click.option("--store", "store", help="Address of the store that holds the vault.")
@click.option("--path", type=click.Path(path_type=Path), help="The vault's folder.")
@click.option("--key", "key", required=True, type=options.FILE, help="The exported key file.")
@options.group
@click.option("--name", default="", help="Name of the vault here (default: HOLDFAST_VAULT).")
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
) -> int:
    """Bring a vault in by its exported key: items and recovery points are rebuilt.

    \b
    Example:
      holdfast vault import --path /srv/old/vaults/ID --key office.key -g home
    """
    if (store is None) == (path is None):
        raise click.UsageError("give either --store URL or --path DIR")
    scope = find_scope(group, None, need_vault=False)
    asked = {
        "storeUrl": store,
        "path": str(path.absolute()) if path else None,
        "keyFile": base64.b64encode(options.read_bytes(key)).decode(),
        "passphrase": options.read_passphrase(passphrase_file),
        "name": name or os.environ.get("HOLDFAST_VAULT", ""),
    }
    where = f"{scope.group_path}/providers/Holdfast.Backup/importVault"
    answer = scope.api.call("POST", where, {"properties": asked})
    made = answer.headers["Azure-AsyncOperation"].partition("/vaults/")[2].partition("/")[0]
    found = find_scope(group, made)
    job = follow.job_id_of(found, answer.headers)
    code = follow.follow(found, job, wait=True, output=output)
    if code == 0 and output == "table":
        click.echo(f"the vault is {made} in {scope.group}")
    return code
