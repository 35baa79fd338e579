"""Running machines from the vault: start one, move its disks, test a recovery point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Response, get, post

from holdfast.arm.guard import needs
from holdfast.arm.http import ArmRequest, Body, accepted, properties_of, threaded
from holdfast.arm.machines import OF_VAULT
from holdfast.arm.ours import HB
from holdfast.arm.vaults import vault_call, vault_operation
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.access import RESTORE_ELSEWHERE
from holdfast.services import instant_restore as service
from holdfast.services.platform import Platform
from holdfast.services.rates import VM_USES, within

ONE = OF_VAULT + "/{machine:str}"
ACTIONS = f"{HB}/vaults/virtualMachines"
INSTANT, MOVE = ONE + "/instantRestore", ONE + "/migrate"
TEST, TESTED = ONE + "/testRestore", ONE + "/restoreTests/{point:str}"
Plan = Callable[[Platform, VaultRow, str, Body], service.RunAsked]


def _started(
    request: ArmRequest, names: tuple[str, str, str], machine: str, data: Body, plan: Plan
) -> Response[None]:
    found = vault_call(request, *names)
    call, platform = found.call, found.call.platform
    asked = plan(platform, found.row, machine, properties_of(data))
    if asked.elsewhere:
        call.principal.check(RESTORE_ELSEWHERE, found.id)
    with within(platform, VM_USES, asked.item.id):
        job = service.start(platform, found.row, asked, call.principal.name)
    return accepted(call, found.id, "Restore", job, vault_operation(found.id))


@post(INSTANT, opt=needs(f"{ACTIONS}/instantRestore/action"), status_code=202)
@threaded
def instant(
    request: ArmRequest, sub: str, group: str, vault: str, machine: str, data: dict[str, Any]
) -> Response[None]:
    """Run ``recoveryPointId`` of a protected machine from the vault as a machine ``name`` of its
    host or of ``container``, by a job that lasts until its disks are moved."""
    return _started(request, (sub, group, vault), machine, data, service.plan_instant)


@post(MOVE, opt=needs(f"{ACTIONS}/migrate/action"), status_code=202)
@threaded
def migrate(
    request: ArmRequest, sub: str, group: str, vault: str, machine: str, data: dict[str, Any]
) -> Response[None]:
    """Move the disks of a machine that runs from the vault into ``storageAccountId``, while it
    runs, by a job."""
    return _started(request, (sub, group, vault), machine, data, service.plan_move)


@post(TEST, opt=needs(f"{ACTIONS}/testRestore/action"), status_code=202)
@threaded
def test(
    request: ArmRequest, sub: str, group: str, vault: str, machine: str, data: dict[str, Any]
) -> Response[None]:
    """Start ``recoveryPointId`` of a protected machine without a network, ask its guest agent, run
    ``script`` in it, and throw it away, by a job. The report is kept on the recovery point."""
    return _started(request, (sub, group, vault), machine, data, service.plan_test)


@get(TESTED, opt=needs(f"{ACTIONS}/read"))
@threaded
def get_test(
    request: ArmRequest, sub: str, group: str, vault: str, machine: str, point: str
) -> Body:
    """The newest test of a recovery point (by id or ``latest``), with the ``screenshot`` (PNG in
    base64). NotFoundError (RestoreTestNotFound)."""
    found = vault_call(request, sub, group, vault)
    item, row = service.find_tested(found.call.platform, found.row, machine, point)
    return {
        "name": row.rp_id,
        "properties": {"machine": item.friendly_name, **row.details["restoreTest"]},
    }


ROUTES = [instant, migrate, test, get_test]
