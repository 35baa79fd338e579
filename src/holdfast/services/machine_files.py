"""Files out of virtual machines' recovery points: which host looks, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection

from holdfast.catalog import containers, tasks
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.points import PointRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.path_text import decode_path
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import ConflictError, UsageError
from holdfast.ports.jobs import JobKind
from holdfast.ports.vm_tasks import (
    MAX_PATHS,
    MAX_ROWS,
    FileRow,
    FilesListed,
    FilesOut,
    read_restored,
)
from holdfast.services.items import find_container, find_item
from holdfast.services.machine_items import HOST
from holdfast.services.platform import Platform
from holdfast.services.point_jobs import submit_on_point
from holdfast.services.recovery import CONFLICTS, find_point

Body = dict[str, Any]
BROWSE = "browse"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_PATH_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class FilesPlan:
    """``host``: the container that does it; ``elsewhere``: it is not the machine's own."""

    item: ItemRow
    point: PointRow
    host: ContainerRow
    target: FilesOut | FilesListed
    elsewhere: bool


def plan_list(
    platform: Platform, vault: VaultRow, names: tuple[str, str], point: str, properties: Body
) -> FilesPlan:
    """List ``path`` ("/": the volumes) from behind ``skipToken``, ``top`` rows at most. UsageError
    (InvalidPath, InvalidParameter, UserErrorNotSupported), NotFoundError, ConflictError."""
    top = properties.get("top")
    if top is None:
        top = MAX_ROWS
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= MAX_ROWS:
        raise UsageError(
            f"top is no count of 1 to {MAX_ROWS}",
            code="InvalidParameter",
            hint="leave it out for as many as there may be",
        )
    path = _absolute([properties.get("path") or "/"])[0]
    after = properties.get("skipToken") or ""
    if not isinstance(after, str) or len(after) > MAX_PATH_CHARS:
        raise UsageError(
            "the continuation token is malformed",
            code="InvalidSkipToken",
            hint="use the skipToken of the page before unchanged",
        )
    target = FilesListed(path=path, after=after, top=top)
    return _plan(platform, vault, names, point, properties, target)


def plan_restore(
    platform: Platform, vault: VaultRow, names: tuple[str, str], point: str, properties: Body
) -> FilesPlan:
    """Restore ``paths`` to ``targetDirectory``/VOLUME/PATH on the machine's host, or on
    ``targetContainerName``. Errors as ``plan_list``; UsageError (InvalidTarget,
    InvalidConflict)."""
    folder = properties.get("targetDirectory")
    good = isinstance(folder, str) and len(folder) <= MAX_PATH_CHARS
    if not good or not decode_path(str(folder)).startswith(b"/"):
        raise UsageError(
            "the target folder is missing, too long or not absolute",
            code="InvalidTarget",
            hint="give --to with an absolute path on the host",
        )
    conflict = properties.get("conflict") or "overwrite"
    if conflict not in CONFLICTS:
        raise UsageError(
            f"{conflict!r} is no way to meet existing files",
            code="InvalidConflict",
            hint=f"--conflict {'|'.join(CONFLICTS)}",
        )
    paths = properties.get("paths")
    if not isinstance(paths, list) or not 1 <= len(paths) <= MAX_PATHS:
        raise UsageError(
            f"give 1 to {MAX_PATHS} paths", code="InvalidPath", hint="--path /osdisk-p1/etc"
        )
    asked = {"folder": folder, "paths": _absolute(paths), "conflict": conflict}
    target = msgspec.convert(asked, FilesOut)
    return _plan(platform, vault, names, point, properties, target)


def _absolute(paths: Sequence[Any]) -> list[str]:
    for path in paths:
        good = isinstance(path, str) and len(path) <= MAX_PATH_CHARS
        if not good or not decode_path(path).startswith(b"/") or b"\0" in decode_path(path):
            raise UsageError(
                "paths begin with a slash and the name of a volume",
                code="InvalidPath",
                hint="see the volumes: holdfast vm browse VM --recovery-point RP /",
            )
    return list(paths)


def _plan(
    platform: Platform,
    vault: VaultRow,
    names: tuple[str, str],
    point: str,
    properties: Body,
    target: FilesOut | FilesListed,
) -> FilesPlan:
    with platform.catalog.read() as connection:
        _, item = find_item(connection, vault, *names)
        if item.workload_type != WORKLOAD:
            raise UsageError(
                f"{item.friendly_name} is no virtual machine",
                code="UserErrorNotSupported",
                hint="browse and restore its files: holdfast recovery-point browse, "
                "holdfast restore",
            )
        found = find_point(connection, vault, item, point)
        own = containers.get_container(connection, str(item.properties.get(HOST) or ""))
        host = _host(connection, vault, item, own, properties.get("targetContainerName"))
    return FilesPlan(item, found, host, target, own is None or own.id != host.id)


def _host(
    connection: Connection,
    vault: VaultRow,
    item: ItemRow,
    own: ContainerRow | None,
    asked: Any,
) -> ContainerRow:
    """The one asked for, or the machine's own."""
    if asked:
        return find_container(connection, vault, str(asked))
    if own is None:
        raise ConflictError(
            f"the host of {item.friendly_name} is not registered any more",
            code="TargetHostUnknown",
            hint="name another host of the vault: --to-container HOST",
        )
    return own


def start(platform: Platform, vault: VaultRow, plan: FilesPlan, by: str) -> str:
    """The job's id."""
    kind: JobKind = "restore" if isinstance(plan.target, FilesOut) else "browse"
    return submit_on_point(platform, vault, plan, by, kind=kind)


def listed(platform: Platform, job: JobRow) -> tuple[list[Body], str]:
    """What a job that has ended found, and from where a next page goes on. It is the task's: jobs
    are shown to more people."""
    with platform.catalog.read() as connection:
        task = tasks.task_of_job(connection, job.id)
    if task is None:
        return [], ""
    told = read_restored(task.result)
    rows = [_row_body(row) for row in told.entries]
    return rows, told.entries[-1].name if told.more and told.entries else ""


def _row_body(row: FileRow) -> Body:
    volume = row.type == "volume"
    seconds = timedelta(microseconds=row.mtime_ns // 1000)
    try:
        moment = None if volume else EPOCH + seconds
    except OverflowError:
        moment = None
    body: Body = {
        "name": row.name,
        "path": row.path,
        "type": row.type,
        "size": row.size,
        "mtime": moment,
        "mode": f"{row.mode:04o}",
        "uid": row.uid,
        "gid": row.gid,
        "linkTarget": row.link_target or None,
    }
    if volume:
        body["volume"] = {
            "fileSystem": row.file_system,
            "label": row.label,
            "problem": row.problem,
        }
    return body
