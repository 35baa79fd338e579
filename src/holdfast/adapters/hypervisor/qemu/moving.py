"""Copying a running machine's disks to images of their own, and changing over to them.

What the guest writes goes to both images from the moment a copy is complete (``write-blocking``),
so that whichever of them is used after a crash has all of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.qemu.booting import COPY, OVERLAY, SOURCE, image_node, node
from holdfast.adapters.hypervisor.qemu.drives import nodes_of
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.errors import SourceError
from holdfast.ports.hypervisor import OS_DISK_LUN
from holdfast.ports.machine_runner import Move

JOB = "hf-move-"
SWITCH_SECONDS, LOOK_SECONDS = 60.0, 0.05
ENDED = ("concluded", "null")


def begin(monitor: QmpConnection, lun: int, target: Path) -> None:
    """Idempotent. SourceError (HypervisorRefused)."""
    if _job(lun) in _jobs(monitor):
        return
    name = node(COPY, lun)
    if name not in _names(monitor):
        monitor.call("blockdev-add", image_node(name, target))
    monitor.execute(
        "blockdev-mirror",
        job_id=_job(lun),
        device=node(OVERLAY, lun),
        target=name,
        sync="full",
        copy_mode="write-blocking",
        on_source_error="report",
        on_target_error="report",
        auto_dismiss=False,
    )


def shown(monitor: QmpConnection) -> list[Move]:
    ready = {one["device"]: bool(one.get("ready")) for one in monitor.execute("query-block-jobs")}
    found = []
    for name, job in _jobs(monitor).items():
        problem = str(job.get("error") or "")
        if job["status"] in ENDED and not problem:
            problem = "it was given up"
        done, total = int(job["current-progress"]), int(job["total-progress"])
        found.append(Move(_lun(name), done, total, ready.get(name, False), problem))
    return found


def switch(monitor: QmpConnection, lun: int) -> None:
    """SourceError (HypervisorRefused, MoveFailed)."""
    monitor.execute("job-complete", id=_job(lun))
    job = _wait_ended(monitor, lun)
    monitor.execute("job-dismiss", id=_job(lun))
    if job.get("error"):
        raise _failed(lun, str(job["error"]))
    for name in (node(OVERLAY, lun), node(SOURCE, lun)):
        if name in _names(monitor):
            monitor.execute("blockdev-del", node_name=name)


def stop(monitor: QmpConnection) -> None:
    for name, job in _jobs(monitor).items():
        lun = _lun(name)
        if job["status"] not in ENDED:
            monitor.execute("block-job-cancel", device=name, force=True)
            _wait_ended(monitor, lun)
        monitor.execute("job-dismiss", id=name)
    leftover = {node(COPY, _lun(name)) for name in _names(monitor) if name.startswith(COPY)}
    used = {
        str(one["inserted"]["node-name"])
        for one in monitor.execute("query-block")
        if one.get("inserted")
    }
    for name in leftover - used:
        monitor.execute("blockdev-del", node_name=name)


def _wait_ended(monitor: QmpConnection, lun: int) -> dict[str, Any]:
    until = time.monotonic() + SWITCH_SECONDS
    while True:
        job = _jobs(monitor).get(_job(lun), {"status": "null"})
        if job["status"] in ENDED:
            return job
        if time.monotonic() > until:
            raise _failed(lun, f"no end within {SWITCH_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)


def _failed(lun: int, why: str) -> SourceError:
    return SourceError(
        f"disk {lun} was not moved: {why}",
        code="MoveFailed",
        hint="the machine goes on as before; see that there is room, then move it again",
    )


def _jobs(monitor: QmpConnection) -> dict[str, dict[str, Any]]:
    found = monitor.execute("query-jobs")
    return {one["id"]: one for one in found if str(one["id"]).startswith(JOB)}


def _names(monitor: QmpConnection) -> set[str]:
    return {str(one["node-name"]) for one in nodes_of(monitor)}


def _job(lun: int) -> str:
    return f"{JOB}{node('', lun)[1:]}"


def _lun(name: str) -> int:
    last = name.rpartition("-")[2]
    return OS_DISK_LUN if last == "os" else int(last)
