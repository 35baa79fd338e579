"""Azure's item level recovery: a script that mounts a recovery point on an operator's machine, and
what the script reads. The script's password opens one point, read only, for twelve hours."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable
from typing import Any
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from litestar import Response, get, post

from holdfast import mount_script
from holdfast.arm.guard import PUBLIC, needs
from holdfast.arm.http import (
    ArmRequest,
    Body,
    accepted,
    check_kind,
    note,
    properties_of,
    stamp,
    threaded,
)
from holdfast.arm.items import answering
from holdfast.arm.operations import find_operation
from holdfast.arm.points import KIND, POINT
from holdfast.arm.vaults import VaultCall, vault_call
from holdfast.catalog.recoveries import RecoveryRow
from holdfast.errors import AuthenticationError, UsageError
from holdfast.services import item_recovery as service
from holdfast.services.item_recovery import OpenPoints
from holdfast.services.platform import Platform

PROVISION = "provisionInstantItemRecovery"
RECOVERIES = "/providers/Holdfast.Backup/itemRecoveries/{recovery:str}"
READING = 16  # requests for what disks hold, at once
KIND_OF_OPERATION = "ProvisionItemRecovery"


@post(POINT + f"/{PROVISION}", opt=needs(f"{KIND}/{PROVISION}/action"), status_code=202)
@threaded
def provision(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    point: str,
    data: dict[str, Any],
) -> Response[None]:
    """Open a virtual machine's recovery point for reading its files, for twelve hours."""
    found = vault_call(request, sub, group, vault)
    call, names = found.call, (container, item)
    check_kind(properties_of(data), "objectType", "IaasVMILRRegistrationRequest")
    row = service.provision(call.platform, found.row, names, point, call.principal.id)
    call.note(recovery_id=row.id)
    result = {"recoveryId": row.id}
    return accepted(call, found.id, KIND_OF_OPERATION, None, answering(found, *names), result)


@post(
    POINT + "/listInstantItemRecoveryOperationResult",
    opt=needs(f"{KIND}/{PROVISION}/action"),
    status_code=200,
)
@threaded
def script_of(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    point: str,
    data: dict[str, Any],
) -> Body:
    """The script that mounts a point, with its password at the end of its name; for who opened
    it."""
    found = vault_call(request, sub, group, vault)
    operation = str(data.get("provisionInstantItemRecoveryOperationId") or "")
    row, _ = find_operation(request, (sub, group, vault), operation)
    call = found.call
    recovery = service.find_recovery(call.platform, str(row.result.get("recoveryId")), point)
    if recovery.created_by != call.principal.id:
        raise UsageError(
            "the recovery point was opened by somebody else",
            code="UserErrorNotSupported",
            hint="open it yourself: az backup restore files mount-rp",
        )
    return {"clientScripts": [_script(found, recovery)]}


def _script(found: VaultCall, row: RecoveryRow) -> Body:
    """Azure's command line takes the 15 letters from the 33rd after the last ``_`` for the
    password."""
    platform = found.call.platform
    server = platform.settings.public_url.rstrip("/") or found.call.base
    machine = _plain(service.machine_name(platform, row))
    content = mount_script.script(
        server=server,
        authority=(platform.data / "ca.pem").read_text(),
        recovery=row.id,
        machine=machine,
        point=row.rp_id,
    )
    name = f"{machine}_{UUID(row.id).hex}{service.password_of(platform, row.id)}"
    return {
        "osType": "Linux",
        "scriptContent": base64.b64encode(content.encode()).decode(),
        "scriptExtension": ".py",
        "scriptNameSuffix": name,
        "url": None,
    }


def _plain(machine: str) -> str:
    """Part of a file's name: machines of an imported vault are called as they like."""
    return "".join(letter if letter.isalnum() else "-" for letter in machine)[:80] or "machine"


@post(
    POINT + "/revokeInstantItemRecovery",
    opt=needs(f"{KIND}/revokeInstantItemRecovery/action"),
    status_code=202,
)
@threaded
def revoke(
    request: ArmRequest,
    sub: str,
    group: str,
    vault: str,
    fabric: str,
    container: str,
    item: str,
    point: str,
) -> Response[None]:
    """Close a point that was opened: scripts that mounted it unmount it."""
    found = vault_call(request, sub, group, vault)
    call, names = found.call, (container, item)
    service.revoke(call.platform, found.row, names, point)
    return accepted(call, found.id, "RevokeItemRecovery", None, answering(found, *names))


def _entered(request: ArmRequest, recovery: str) -> tuple[Platform, RecoveryRow]:
    """By the script's password, as a bearer token. AuthenticationError (RecoveryNotOpen)."""
    platform: Platform = request.app.state.platform
    kind, _, password = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not password.isascii():
        raise AuthenticationError(
            "the request carries no password of a recovery",
            code="RecoveryNotOpen",
            hint="run the script of az backup restore files mount-rp",
        )
    note(request, recovery_id=recovery[:36])
    return platform, service.enter(platform, recovery.lower(), password)


def _apart(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Run a blocking handler in threads of its own: disks are read from the vault's store, and
    when that is slow nothing else of the server is to wait."""

    @functools.wraps(handler)
    async def run(request: ArmRequest, **named: Any) -> Any:
        state = request.app.state
        if "reading_threads" not in state:
            state.reading_threads = CapacityLimiter(READING)
        work = functools.partial(handler, request, **named)
        return await to_thread.run_sync(work, limiter=state.reading_threads)

    return run


@get(RECOVERIES, opt=PUBLIC)
@_apart
def get_recovery(request: ArmRequest, recovery: str) -> Body:
    """What a script mounts, and until when; it brings its password as a bearer token."""
    platform, row = _entered(request, recovery)
    opened: OpenPoints = request.app.state.open_points
    disks = [
        {
            "lun": disk.lun,
            "name": "osdisk" if disk.lun < 0 else f"disk{disk.lun}",
            "sizeBytes": disk.size,
        }
        for disk in opened.disks(row)
    ]
    return {
        "name": row.id,
        "type": "Holdfast.Backup/itemRecoveries",
        "properties": {
            "virtualMachine": service.machine_name(platform, row),
            "recoveryPoint": row.rp_id,
            "expiresAt": stamp(row.expires_at),
            "disks": disks,
        },
    }


@get(RECOVERIES + "/disks/{lun:int}", opt=PUBLIC)
@_apart
def read_disk(request: ArmRequest, recovery: str, lun: int) -> Response[Any]:
    """Bytes of a disk: ``offset``, ``length`` (4 MiB at most). 204 when all of them are zeros."""
    _, row = _entered(request, recovery)
    opened: OpenPoints = request.app.state.open_points
    offset, length = (_count(request, name) for name in ("offset", "length"))
    data = opened.read(row, lun, offset, length)
    if not data:
        return Response(content=None, status_code=204)
    return Response(data, media_type="application/octet-stream")


def _count(request: ArmRequest, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise UsageError(f"{name} is no count", code="InvalidRange", hint=f"give {name} in bytes")
    return int(text)


ROUTES = [provision, script_of, revoke, get_recovery, read_disk]
