"""The NBD server inside QEMU and what it serves: one per QEMU, one export per disk, read-only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.qemu.drives import OURS, Drive
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection, QmpRefusedError
from holdfast.errors import ConflictError, SourceError

EXPORT = OURS + "exp-"
GONE_SECONDS = 15.0
POLL_SECONDS = 0.01


def start_server(monitor: QmpConnection, socket: Path) -> None:
    """ConflictError (NbdServerBusy) when somebody else uses this QEMU's only one."""
    address = {"type": "unix", "data": {"path": str(socket)}}
    try:
        monitor.execute("nbd-server-start", addr=address)
    except QmpRefusedError as error:
        if "already running" not in error.said:
            raise
        raise ConflictError(
            "the machine's NBD server is in use by another program",
            code="NbdServerBusy",
            hint="end the other backup or migration of this machine",
            retry="later",
        ) from error


def export(monitor: QmpConnection, drive: Drive, node: str, bitmap: str | None) -> str:
    """Returns the export's name."""
    name = drive.ours("disk").removeprefix(OURS)
    wanted: dict[str, Any] = {
        "type": "nbd",
        "id": drive.ours("exp"),
        "node-name": node,
        "name": name,
        "writable": False,
    }
    if bitmap:
        wanted["bitmaps"] = [{"node": drive.node, "name": bitmap}]
    monitor.call("block-export-add", wanted)
    return name


def stop(monitor: QmpConnection, *, started: bool) -> None:
    """Remove our exports, wait until they are gone, and stop the server unless others have exports
    on it. ``started``: it is known to be ours; otherwise only exports of ours show that."""
    found = list(monitor.execute("query-block-exports"))
    ours = [str(one["id"]) for one in found if str(one["id"]).startswith(EXPORT)]
    for name in ours:
        with suppress(QmpRefusedError):  # it is shutting down already
            monitor.execute("block-export-del", id=name, mode="hard")
    _wait_gone(monitor, ours)
    if (ours or started) and len(ours) == len(found):
        with suppress(QmpRefusedError):  # it was stopped already
            monitor.execute("nbd-server-stop")


def _wait_gone(monitor: QmpConnection, names: Sequence[str]) -> None:
    until = time.monotonic() + GONE_SECONDS
    while any(one["id"] in names for one in monitor.execute("query-block-exports")):
        if time.monotonic() > until:
            raise SourceError(
                "QEMU does not end the exports of a backup",
                code="ExportStuck",
                hint="see the machine's log; the next backup tries again",
                retry="later",
            )
        time.sleep(POLL_SECONDS)
