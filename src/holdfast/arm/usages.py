"""What a vault holds, against the limits there are."""

from __future__ import annotations

from litestar import get

from holdfast.arm.actions import by_address
from holdfast.arm.filters import FILES, KNOWN, parse_filter
from holdfast.arm.filters import MACHINES as VIRTUAL
from holdfast.arm.http import ArmRequest, Body, threaded
from holdfast.arm.vaults import VAULT, vault_call
from holdfast.catalog import containers, items, policies
from holdfast.errors import UsageError

READ = by_address()
ITEMS, MACHINES = "BackupProtectedItemCountSummary", "BackupProtectionContainerCountSummary"
# as Azure writes them, and as its documents do
SUMMARIES = {
    name.removeprefix(prefix).lower(): name
    for name in (ITEMS, MACHINES)
    for prefix in ("", "Backup")
}


SHOWN = {FILES: "Azure Backup Agent", VIRTUAL: "Azure Virtual Machine"}


def _usage(name: str, shown: str, count: int, most: int = 0) -> Body:
    """``most``: 0 is no limit."""
    return {
        "unit": "Count",
        "currentValue": count,
        "limit": most or -1,
        "name": {"value": name, "localizedValue": shown},
    }


@get(VAULT + "/usages", opt=READ)
@threaded
def usages(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Items, machines and policies of a vault, with the limits of this server's settings."""
    found = vault_call(request, sub, group, vault)
    platform, vault_id = found.call.platform, found.row.id
    settings = platform.settings
    with platform.catalog.read() as connection:
        protected = items.count_items(connection, vault_id)
        machines = containers.count_registered(connection, vault_id)
        rules = policies.count_policies(connection, vault_id)
    return {
        "value": [
            _usage("ProtectedItems", "Protected items", protected, settings.max_vault_items),
            _usage("RegisteredMachines", "Machines", machines, settings.max_vault_machines),
            _usage("BackupPolicies", "Backup policies", rules, settings.max_vault_policies),
        ]
    }


@get(VAULT + "/backupUsageSummaries", opt=READ)
@threaded
def summaries(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Items or their containers, a row for each kind of backup; ``$filter``: type. The limit of
    items of all kinds together is told by usages."""
    found = vault_call(request, sub, group, vault)
    platform, vault_id = found.call.platform, found.row.id
    asked = parse_filter(found.call.query("$filter")).get("type", ITEMS)
    kind = SUMMARIES.get(asked.lower())
    if kind is None:
        raise UsageError(
            f"{asked[:50]!r} is no summary",
            code="InvalidFilter",
            hint=f"give type eq '{ITEMS}' or type eq '{MACHINES}'",
        )
    with platform.catalog.read() as connection:
        if kind == MACHINES:
            registered = containers.count_registered
            counts = {of: registered(connection, vault_id, of[0]) for of in KNOWN}
        else:
            by_workload = items.counts_by_workload(connection, vault_id)
            counts = {of: by_workload.get(of[1], 0) for of in KNOWN}
    most = {VIRTUAL: platform.settings.max_vault_vms}
    if kind == MACHINES:
        most[FILES] = platform.settings.max_vault_machines
    rows = [_usage(of[0], SHOWN[of], count, most.get(of, 0)) for of, count in counts.items()]
    return {"value": rows}


ROUTES = [usages, summaries]
