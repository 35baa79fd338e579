"""Resources of our own, under the provider Holdfast.Backup: what ARM has no word for."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from litestar import Response, delete, get, post, put

from holdfast.arm import region_disks, wire
from holdfast.arm.guard import needs_on_installation
from holdfast.arm.http import (
    ArmRequest,
    Body,
    accepted,
    call_of,
    listed,
    properties_of,
    stamp,
    threaded,
)
from holdfast.arm.subscriptions import check_subscription
from holdfast.arm.vaults import VAULT, vault_call, vault_job
from holdfast.errors import UsageError
from holdfast.services import copies, maintenance, regions
from holdfast.services import vaults as vault_service
from holdfast.services.agents import issue_vault_credentials

HB = "Holdfast.Backup"
REGIONS = f"/providers/{HB}/regions"
OURS = VAULT + f"/providers/{HB}"
MAX_CREDENTIAL_SECONDS = 30 * 86400
DEFAULT_CREDENTIAL_SECONDS = 48 * 3600


@get(REGIONS, opt=needs_on_installation(f"{HB}/regions/read"))
@threaded
def list_regions(request: ArmRequest) -> Body:
    """Regions and their stores."""
    call = call_of(request)
    return listed([wire.region_body(row) for row in regions.list_regions(call.platform)], call)


@get(REGIONS + "/{region:str}", opt=needs_on_installation(f"{HB}/regions/read"))
@threaded
def get_region(request: ArmRequest, region: str) -> Body:
    """One region; credentials are never shown."""
    platform = call_of(request).platform
    row = regions.get_region(platform, region)
    return wire.region_body(row, copies.disks_of_region(platform, row))


@put(REGIONS + "/{region:str}", opt=needs_on_installation(f"{HB}/regions/write"))
@threaded
def put_region(request: ArmRequest, region: str, data: dict[str, Any]) -> Body:
    """Create a region, or change its credentials."""
    asked = properties_of(data)
    store, credentials = asked.get("store"), asked.get("credentials")
    if not isinstance(store, str) or not isinstance(credentials, dict | None):
        raise UsageError("a region needs a store address", hint="give --store URL")
    given = {str(key): str(value) for key, value in credentials.items()} if credentials else None
    return wire.region_body(regions.put_region(call_of(request).platform, region, store, given))


@delete(
    REGIONS + "/{region:str}", opt=needs_on_installation(f"{HB}/regions/delete"), status_code=200
)
@threaded
def delete_region(request: ArmRequest, region: str) -> None:
    """Delete a region no vault lies in."""
    regions.remove_region(call_of(request).platform, region)


@post(
    OURS + "/createVaultCredentials",
    opt={"action": f"{HB}/vaults/createVaultCredentials/action"},
    status_code=200,
)
@threaded
def create_credentials(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """An enrolment file for agents of this vault."""
    found = vault_call(request, sub, group, vault)
    call, platform = found.call, found.call.platform
    seconds = properties_of(data).get("expiresInSeconds")
    if seconds is None:
        seconds = DEFAULT_CREDENTIAL_SECONDS
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 <= seconds <= MAX_CREDENTIAL_SECONDS
    ):
        raise UsageError(
            "vault credentials live at most 30 days", code="InvalidExpiry", hint="--expires 48h"
        )
    with platform.catalog.write() as connection:
        token, expires = issue_vault_credentials(
            connection, platform.clock, platform.rng, found.row.id, seconds, call.principal.name
        )
    credentials = {
        "kind": "holdfast vault credentials",
        "server": platform.settings.public_url.rstrip("/") or call.base,
        "ca": (platform.data / "ca.pem").read_text(),
        "vaultId": found.id,
        "token": token,
        "expiresAt": stamp(expires),
    }
    return {"properties": {"credentials": credentials, "expiresAt": stamp(expires)}}


@post(OURS + "/exportKey", opt={"action": f"{HB}/vaults/exportKey/action"}, status_code=200)
@threaded
def export_key(request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]) -> Body:
    """The recovery key of a vault, sealed under a passphrase."""
    found = vault_call(request, sub, group, vault)
    passphrase = properties_of(data).get("passphrase")
    if not isinstance(passphrase, str):
        raise UsageError(
            "the passphrase is missing",
            code="PassphraseTooShort",
            hint="give a passphrase of at least 8 characters",
        )
    name = found.row.name
    file = vault_service.export_key(found.call.platform, group, name, passphrase)
    return {"properties": {"keyFile": base64.b64encode(file).decode()}}


@post(
    "/subscriptions/{sub:str}/resourceGroups/{group:str}/providers/Holdfast.Backup/importVault",
    opt={"action": f"{HB}/vaults/import/action"},
    status_code=202,
)
@threaded
def import_vault(request: ArmRequest, sub: str, group: str, data: dict[str, Any]) -> Response[None]:
    """Bring a vault in by its exported key, by a job."""
    call = call_of(request)
    check_subscription(call, sub)
    asked = properties_of(data)
    try:
        key_file = base64.b64decode(str(asked.get("keyFile", "")), validate=True)
    except ValueError as error:
        raise UsageError(
            "keyFile is not base64",
            code="KeyFileInvalid",
            hint="send what vault export-key wrote, in base64",
        ) from error
    wanted = maintenance.ImportAsked(
        str(asked.get("storeUrl") or ""),
        str(asked.get("path") or ""),
        key_file,
        str(asked.get("passphrase") or ""),
        str(asked.get("name") or ""),
        str(asked.get("location") or ""),
    )
    row, job = maintenance.import_vault(call.platform, group, wanted, call.principal.name)
    holder = wire.vault_id(row, group)
    return accepted(call, holder, "ImportVault", job, vault_job(holder))


def _upkeep(request: ArmRequest, kind: str, data: Body, names: tuple[str, str, str]) -> Any:
    found = vault_call(request, *names)
    call = found.call
    if properties_of(data).get("planOnly"):
        plan = maintenance.plan_of(call.platform, found.row, kind)
        plan["plan"] = [_shown(row) for row in plan["plan"]]
        return Response({"properties": plan}, status_code=200)
    job = maintenance.start(call.platform, found.row, kind, call.principal.name)
    return accepted(call, found.id, kind.capitalize(), job, vault_job(found.id))


def _shown(row: Body) -> Body:
    return {
        key: stamp(value) if isinstance(value, datetime) else value for key, value in row.items()
    }


@post(OURS + "/verify", opt={"action": f"{HB}/vaults/verify/action"}, status_code=202)
@threaded
def verify(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Response[Any]:
    """Decrypt and recompute everything, by a job."""
    found: Response[Any] = _upkeep(request, "verify", data, (sub, group, vault))
    return found


@post(OURS + "/scrub", opt={"action": f"{HB}/vaults/scrub/action"}, status_code=202)
@threaded
def scrub(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Response[Any]:
    """Read every object and check what needs no key, by a job that goes on where one stopped."""
    found: Response[Any] = _upkeep(request, "scrub", data, (sub, group, vault))
    return found


@post(OURS + "/repair", opt={"action": f"{HB}/vaults/repair/action"}, status_code=202)
@threaded
def repair(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Response[Any]:
    """Mend what the last checks found damaged, by a job; ``planOnly`` shows what and what is lost.
    Nothing is deleted."""
    found: Response[Any] = _upkeep(request, "repair", data, (sub, group, vault))
    return found


@post(OURS + "/expire", opt={"action": f"{HB}/vaults/expire/action"}, status_code=202)
@threaded
def expire(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Response[Any]:
    """Drop recovery points whose time is over, by a job; ``planOnly`` shows which."""
    found: Response[Any] = _upkeep(request, "expire", data, (sub, group, vault))
    return found


@post(OURS + "/collect", opt={"action": f"{HB}/vaults/collect/action"}, status_code=202)
@threaded
def collect(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Response[Any]:
    """Free what nothing needs, by a job; ``planOnly`` shows how much."""
    found: Response[Any] = _upkeep(request, "collect", data, (sub, group, vault))
    return found


@post(OURS + "/confirmClock", opt={"action": f"{HB}/vaults/confirmClock/action"}, status_code=200)
@threaded
def confirm_clock(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> None:
    """Say that the clock is right, so that expire and collect go on."""
    found = vault_call(request, sub, group, vault)
    maintenance.confirm_clock(found.call.platform, found.row)


ROUTES = [
    *region_disks.ROUTES,
    list_regions,
    get_region,
    put_region,
    delete_region,
    create_credentials,
    export_key,
    import_vault,
    verify,
    scrub,
    repair,
    expire,
    collect,
    confirm_clock,
]
