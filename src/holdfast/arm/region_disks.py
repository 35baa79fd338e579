"""The disks of a region that keeps copies on several: taking a new one in, letting another
decide."""

from __future__ import annotations

from typing import Any

from litestar import post

from holdfast.arm import wire
from holdfast.arm.guard import needs_on_installation
from holdfast.arm.http import ArmRequest, Body, call_of, properties_of, text_of, threaded
from holdfast.errors import UsageError
from holdfast.services import copies

ONE = "/providers/Holdfast.Backup/regions/{region:str}"
ADOPT, FAIL_OVER = ONE + "/adoptDisk", ONE + "/failOver"
WRITE = needs_on_installation("Holdfast.Backup/regions/write")


def _store(data: dict[str, Any]) -> str:
    found = text_of(properties_of(data), "store")
    if not found:
        raise UsageError("which disk is not said", hint="give --store URL, one of the region's")
    return found


@post(ADOPT, opt=WRITE, status_code=200)
@threaded
def adopt_disk(request: ArmRequest, region: str, data: dict[str, Any]) -> Body:
    """Take an empty disk in place of one that was lost; copies are written to it then."""
    platform = call_of(request).platform
    row = copies.adopt_disk(platform, region, _store(data))
    return wire.region_body(row, copies.disks_of_region(platform, row))


@post(FAIL_OVER, opt=WRITE, status_code=200)
@threaded
def fail_over(request: ArmRequest, region: str, data: dict[str, Any]) -> Body:
    """Let another disk decide what is written, when the one that did is lost."""
    platform = call_of(request).platform
    accept = properties_of(data).get("acceptLoss") is True
    row = copies.fail_over(platform, region, _store(data), accept)
    return wire.region_body(row, copies.disks_of_region(platform, row))


ROUTES = [adopt_disk, fail_over]
