"""Virtual machines as resources: those that hosts of vaults report."""

from __future__ import annotations

from litestar import get

from holdfast.arm.guard import needs, needs_below
from holdfast.arm.http import PAGE_ROWS, ArmRequest, Body, Call, call_of, listed, threaded
from holdfast.arm.machine_bodies import COMPUTE, machine_body
from holdfast.arm.ours import HB, OURS
from holdfast.arm.subscriptions import GROUP_PATH, SUB, check_subscription
from holdfast.arm.vaults import vault_call
from holdfast.catalog import listing, machines
from holdfast.services.machines import find_machine, view_machines

KIND = COMPUTE
IN_SUB, IN_GROUP = f"{SUB}/providers/{COMPUTE}", f"{GROUP_PATH}/providers/{COMPUTE}"
MACHINE = IN_GROUP + "/{machine:str}"
OF_VAULT = f"{OURS}/virtualMachines"


def _expanded(call: Call) -> bool:
    return "instanceview" in call.query("$expand").lower()


def _page(call: Call, owner: str, group: str | None, vault_id: str | None = None) -> Body:
    with call.platform.catalog.read() as connection:
        page = machines.page_machines(
            connection,
            owner,
            group=group,
            vault_id=vault_id,
            limit=PAGE_ROWS,
            token=call.skip_token,
        )
        views = view_machines(connection, page.rows)
        names = listing.group_names(connection, owner, (row.group_key for row in page.rows))
    rows = [machine_body(view, names.get(view.row.group_key, view.row.group_key)) for view in views]
    if vault_id is None:
        rows = [row for row in rows if call.principal.may_below(f"{KIND}/read", row["id"])]
    return listed(rows, call, page.next_token)


def _one(call: Call, owner: str, group: str, name: str, vault_id: str | None = None) -> Body:
    with call.platform.catalog.read() as connection:
        view = find_machine(connection, owner, group, name, vault_id)
        names = listing.group_names(connection, owner, [view.row.group_key])
    shown = names.get(view.row.group_key, view.row.group_key)
    return machine_body(view, shown, expanded=_expanded(call))


@get([IN_SUB, IN_GROUP], opt=needs_below(f"{KIND}/read"))
@threaded
def list_machines(request: ArmRequest, sub: str, group: str | None = None) -> Body:
    """Virtual machines that hosts report, of a group or of the subscription."""
    call = call_of(request)
    return _page(call, check_subscription(call, sub), group)


@get(MACHINE, opt=needs(f"{KIND}/read"))
@threaded
def get_machine(request: ArmRequest, sub: str, group: str, machine: str) -> Body:
    """A virtual machine; ``$expand=instanceView`` adds how it runs. NotFoundError
    (ResourceNotFound)."""
    call = call_of(request)
    return _one(call, check_subscription(call, sub), group, machine)


@get(OF_VAULT, opt=needs(f"{HB}/vaults/virtualMachines/read"))
@threaded
def list_of_vault(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Virtual machines that hosts of one vault report, for those who see no more than it."""
    found = vault_call(request, sub, group, vault)
    return _page(found.call, found.row.subscription_id, None, found.row.id)


@get(OF_VAULT + "/{machine:str}", opt=needs(f"{HB}/vaults/virtualMachines/read"))
@threaded
def get_of_vault(request: ArmRequest, sub: str, group: str, vault: str, machine: str) -> Body:
    """One of them."""
    found = vault_call(request, sub, group, vault)
    row = found.row
    return _one(found.call, row.subscription_id, row.group_key, machine, row.id)


ROUTES = [list_machines, get_machine, list_of_vault, get_of_vault]
