"""Recovery points: find, browse, restore."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import points
from holdfast.catalog.items import ItemRow
from holdfast.catalog.points import PointRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import soft_deleted
from holdfast.domain.names import full_container_name
from holdfast.domain.path_text import decode_path, encode_path
from holdfast.errors import NotFoundError, UsageError
from holdfast.jobs.safety import is_safety_point
from holdfast.ports.jobs import JobSpec
from holdfast.services.items import find_container, find_item
from holdfast.services.kept_copies import find_copied, in_vault
from holdfast.services.platform import Platform
from holdfast.vaultstore.entries import Entry, EntryType

Body = dict[str, Any]
LATEST = "latest"
CONFLICTS = ("overwrite", "skip", "keep-both")
TYPES = {
    EntryType.FILE: "file",
    EntryType.DIRECTORY: "directory",
    EntryType.SYMLINK: "symlink",
    EntryType.FIFO: "fifo",
    EntryType.CHARACTER_DEVICE: "device",
    EntryType.BLOCK_DEVICE: "device",
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TOP = 1000


@dataclass(frozen=True, slots=True)
class RestoreAsked:
    """``container``: the target machine, "" for the item's own; ``target``: None for the original
    place."""

    container: str
    target: str | None
    paths: list[str]
    conflict: str
    dry_run: bool

    def elsewhere(self, own: str) -> bool:
        if not self.container:
            return False
        wanted, here = full_container_name(self.container), full_container_name(own)
        return wanted.lower() != here.lower()


def read_restore(properties: Body) -> RestoreAsked:
    """A restore request. UsageError for what cannot be meant."""
    said = {name: value for name, value in properties.items() if value not in (None, "")}
    kind = said.get("recoveryType", "AlternateLocation")
    target = said.get("targetDirectory")
    paths = said.get("paths", [])
    conflict = said.get("conflict", "overwrite")
    if kind not in ("OriginalLocation", "AlternateLocation"):
        raise UsageError(
            f"recoveryType {kind!r} is not served for files",
            hint="one of OriginalLocation, AlternateLocation",
        )
    if kind == "AlternateLocation" and not _is_absolute(target):
        raise UsageError(
            "the target folder is missing or not absolute",
            code="InvalidTarget",
            hint="give --to with an absolute path, or --original",
        )
    if conflict not in CONFLICTS:
        raise UsageError(
            f"{conflict!r} is no way to meet existing files",
            code="InvalidConflict",
            hint=f"--conflict {'|'.join(CONFLICTS)}",
        )
    if not isinstance(paths, list) or not all(map(_is_absolute, paths)):
        raise UsageError("paths must be absolute", code="InvalidPath", hint="--path /home/ann")
    original = kind == "OriginalLocation"
    return RestoreAsked(
        str(said.get("targetContainerName", "")),
        None if original else target,
        paths,
        conflict,
        bool(properties.get("dryRun")),
    )


def _is_absolute(path: Any) -> bool:
    return isinstance(path, str) and decode_path(path).startswith(b"/")


def find_point(connection: Connection, vault: VaultRow, item: ItemRow, name: str) -> PointRow:
    """A live point of the vault; see ``find_any_point``. ConflictError (RecoveryPointNotInVault)
    for one that its host alone has."""
    return in_vault(find_any_point(connection, vault, item, name))


def find_any_point(connection: Connection, vault: VaultRow, item: ItemRow, name: str) -> PointRow:
    """A live point by id, or the latest in the vault that is no safety point: a restore that is
    asked again is not to bring back what the first replaced. One that a host alone has is found by
    the copy's token, and so is what became of it. NotFoundError (RecoveryPointNotFound);
    ConflictError (UserErrorItemSoftDeleted) while the item's data is deleted."""
    if item.deleted_at is not None:
        raise soft_deleted(item.friendly_name)
    if name.lower() == LATEST:
        row = _latest(connection, item)
    else:
        row = points.get_point(connection, vault.id, name)
        row = row or find_copied(connection, item, name)
    if row is None or row.item_id != item.id:
        raise NotFoundError(
            f"{item.friendly_name} has no recovery point {name}",
            code="RecoveryPointNotFound",
            hint="see which exist: holdfast recovery-point list",
        )
    return row


def _latest(connection: Connection, item: ItemRow) -> PointRow | None:
    newest = points.latest_point(connection, item.id)
    if newest is None or not is_safety_point(connection, newest):
        return newest
    every = points.points_of_item(connection, item.id)
    return next((one for one in every if not is_safety_point(connection, one)), newest)


def restore(
    platform: Platform,
    vault: VaultRow,
    container: str,
    item: str,
    point: str,
    asked: RestoreAsked,
    by: str,
) -> str:
    """Start a restore; the job's id."""
    with platform.catalog.read() as connection:
        holder, row = find_item(connection, vault, container, item)
        found = find_point(connection, vault, row, point)
        target = holder
        if asked.elsewhere(container):
            target = find_container(connection, vault, asked.container)
    spec = JobSpec(
        kind="restore",
        vault_id=vault.id,
        entity_name=row.friendly_name,
        item_id=row.id,
        container_id=target.id,
        parameters={
            "recoveryPointId": found.rp_id,
            "paths": asked.paths,
            "target": asked.target,
            "conflict": asked.conflict,
            "dryRun": asked.dry_run,
        },
        created_by=by,
    )
    return platform.jobs.submit(spec)


def browse(
    platform: Platform,
    vault: VaultRow,
    container: str,
    item: str,
    point: str,
    path: str,
    top: int,
    token: str,
) -> tuple[list[Body], str]:
    """A page of a folder's entries and the token of the next. NotFoundError (PathNotFound)."""
    with platform.catalog.read() as connection:
        _, row = find_item(connection, vault, container, item)
        found = find_point(connection, vault, row, point)
    tree = platform.vaults.open(vault.id).file_tree(found.rp_id)
    folder = os.path.normpath(decode_path(path)).strip(b"/")
    folder = b"" if folder == b"." else folder
    after = _untoken(token)
    limit = max(1, min(top, MAX_TOP))
    entries = tree.list_directory(folder, after=after, limit=limit + 1)
    if not entries and folder and not after:
        there = tree.lookup(folder)
        if there is None:
            raise NotFoundError(
                f"{path} is not in recovery point {found.rp_id}",
                code="PathNotFound",
                hint="browse from the top: holdfast recovery-point browse",
            )
        if there.type != EntryType.DIRECTORY:
            return [_entry_body(folder.rpartition(b"/")[0], there)], ""
    rows = [_entry_body(folder, entry) for entry in entries[:limit]]
    following = entries[limit - 1].name if len(entries) > limit else b""
    return rows, base64.urlsafe_b64encode(following).decode() if following else ""


def _untoken(token: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(token) if token else b""
    except ValueError as error:
        raise UsageError(
            "the continuation token is malformed",
            code="InvalidSkipToken",
            hint="use the nextLink of the previous page unchanged",
        ) from error


def _entry_body(folder: bytes, entry: Entry) -> Body:
    path = b"/" + folder + b"/" + entry.name if folder else b"/" + entry.name
    return {
        "name": encode_path(entry.name),
        "path": encode_path(path),
        "type": TYPES.get(EntryType(entry.type), "other"),
        "size": entry.size,
        "mtime": EPOCH + timedelta(microseconds=entry.mtime_ns // 1000),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "linkTarget": encode_path(entry.link_target) if entry.link_target else None,
    }
