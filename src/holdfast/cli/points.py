"""holdfast recovery-point ..."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import options, show
from holdfast.cli.api import Scope, find_scope


def _bytes(name: str) -> show.Column:
    read = show.prop("holdfast", f"{name}Bytes")
    return name, lambda row: show.size(read(row))


TIERS = {"InstantRP": "snapshot", "HardenedRP": "vault"}  # as az calls them


def _tiers(row: show.Body) -> list[str]:
    """Where a point is now; of files it is always the vault."""
    told = row["properties"].get("recoveryPointTierDetails")
    if told is None:
        return ["vault"]
    valid = [one["type"] for one in told if one["status"] == "Valid"]
    return [TIERS.get(kind, kind) for kind in valid]


_SOFT_DELETED = show.prop("recoveryPointProperties", "isSoftDeleted")
COLUMNS: list[show.Column] = [
    ("recovery point", lambda row: row["name"]),
    ("time (UTC)", show.when("recoveryPointTime")),
    ("tags", show.prop("holdfast", "tags")),
    _bytes("logical"),
    _bytes("transferred"),
    _bytes("stored"),
    ("findings", show.prop("holdfast", "findingsCount")),
    ("expires (UTC)", show.when("recoveryPointProperties", "expiryTime")),
    ("soft-deleted", lambda row: "yes" if _SOFT_DELETED(row) else ""),
    ("consistency", show.prop("recoveryPointType")),
    ("tiers", lambda row: ", ".join(_tiers(row))),
]


def _mode(given: Any) -> Any:
    """Permission bits in octal, as chmod takes them."""
    return f"{given & 0o7777:04o}" if isinstance(given, int) else given


POINT = click.option("--recovery-point", "point", required=True, help="Id, or latest.")
ENTRY_COLUMNS: list[show.Column] = [
    ("type", lambda row: row["type"]),
    ("mode", lambda row: _mode(row["mode"])),
    ("size", lambda row: row["size"]),
    ("modified (UTC)", lambda row: show.moment(row["mtime"])),
    (
        "name",
        lambda row: f"{row['name']} -> {row['linkTarget']}" if row["linkTarget"] else row["name"],
    ),
]


@click.group()
def command() -> None:
    """States you can restore.

    \b
    Example:
      holdfast recovery-point list --item docs --container web1
    """


@command.command("list")
@options.item
@options.output
def list_(item: str, container: str, group: str | None, vault: str | None, output: str) -> None:
    """List recovery points, newest first, with their sizes.

    \b
    Example:
      holdfast recovery-point list --item docs --container web1
    """
    scope = find_scope(group, vault)
    rows = scope.api.listed(f"{scope.item(container, item)}/recoveryPoints")
    show.emit(rows, output, COLUMNS)


def newest(scope: Scope, container: str, item: str, point: str) -> str:
    """The id of ``latest``; other ids as they are."""
    if point != "latest":
        return point
    return str(scope.api.get(scope.point(container, item, "latest"))["name"])


@command.command("show")
@POINT
@options.item
@options.output
def show_(
    point: str, item: str, container: str, group: str | None, vault: str | None, output: str
) -> None:
    """Show a recovery point.

    \b
    Example:
      holdfast recovery-point show --recovery-point latest --item docs --container web1
    """
    scope = find_scope(group, vault)
    body = scope.api.get(scope.point(container, item, point))
    show.emit(body, output, COLUMNS)
    if output == "table":
        rule = show.prop("recoveryPointProperties", "ruleName")(body)
        ours = body["properties"]["holdfast"]
        click.echo(f"kept by: {rule or 'its policy'}; made by job {ours['jobId']}")
        if show.prop("recoveryPointAdditionalInfo")(body):
            click.echo(f"consistency: {show.prop('recoveryPointAdditionalInfo')(body)}")
        for line in [*_snapshot(body), *_keys(ours.get("encryption"))]:
            click.echo(line)


def _snapshot(body: show.Body) -> list[str]:
    """What a point of a machine says of the copies beside its disks."""
    told = (body["properties"]["holdfast"].get("measured") or {}).get("instant")
    if not told:
        return []
    if not told["kept"]:
        return [f"snapshot: none, for {told['reason']}"]
    if "snapshot" not in _tiers(body):
        return ["snapshot: gone"]
    return [f"snapshot: beside the machine's disks until {show.moment(told['until'])} UTC"]


def _keys(encryption: show.Body | None) -> list[str]:
    """What a point of a machine with encrypted volumes says of their keys."""
    if encryption is None:
        return []
    held = [_named(key) for key in encryption["keys"]]
    lines = [f"encrypted volumes: keys in this point: {', '.join(held) or 'none'}"]
    if missing := encryption["keysMissing"]:
        lines.append(f"encrypted volumes: NOT in this point: {', '.join(missing)}; see its job")
    return lines


def _named(key: show.Body) -> str:
    of = ", ".join(f"LUN {lun}" for lun in key["luns"]) or "all disks"
    return f"{key['name']} version {key['version']} ({of})"


@command.command()
@POINT
@options.item
@click.argument("path", default="/", type=options.PATH_TEXT)
@options.output
def browse(
    point: str,
    item: str,
    container: str,
    path: str,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """List a folder of a recovery point.

    \b
    Example:
      holdfast recovery-point browse --recovery-point latest /home --item docs --container web1
    """
    scope = find_scope(group, vault)
    where = f"{scope.point(container, item, newest(scope, container, item, point))}"
    query = {"path": path, "$top": "1000"}
    rows = scope.api.listed(f"{where}/providers/Holdfast.Backup/files", query)
    show.emit(rows, output, ENTRY_COLUMNS)
