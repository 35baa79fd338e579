"""Every table of the catalog, prefixed ``hf_``. The migrations build exactly these."""

from __future__ import annotations

from holdfast.catalog.columns import metadata
from holdfast.catalog.tables.access import (
    agents,
    audit,
    principals,
    role_assignments,
    spent_tokens,
    vault_credentials,
)
from holdfast.catalog.tables.heads import head_witnesses
from holdfast.catalog.tables.machines import (
    machine_reports,
    storage_accounts,
    virtual_machines,
)
from holdfast.catalog.tables.people import refresh_tokens, sign_ins, users
from holdfast.catalog.tables.places import (
    containers,
    items,
    meta,
    policies,
    recovery_points,
    regions,
    resource_groups,
    subscriptions,
    vaults,
)
from holdfast.catalog.tables.recoveries import item_recoveries
from holdfast.catalog.tables.watch import (
    FIRED_SQL,
    UNSENT_SQL,
    alert_history,
    alert_settings,
    alerts,
    notifications,
    usage_samples,
)
from holdfast.catalog.tables.work import (
    ACTIVE_SQL,
    ACTIVE_STATUSES,
    agent_sessions,
    agent_tasks,
    daily_counts,
    job_findings,
    job_history,
    jobs,
    maintenance_runs,
    operations,
    workers,
)

__all__ = [
    "ACTIVE_SQL",
    "ACTIVE_STATUSES",
    "FIRED_SQL",
    "UNSENT_SQL",
    "agent_sessions",
    "agent_tasks",
    "agents",
    "alert_history",
    "alert_settings",
    "alerts",
    "audit",
    "containers",
    "daily_counts",
    "head_witnesses",
    "item_recoveries",
    "items",
    "job_findings",
    "job_history",
    "jobs",
    "machine_reports",
    "maintenance_runs",
    "meta",
    "metadata",
    "notifications",
    "operations",
    "policies",
    "principals",
    "recovery_points",
    "refresh_tokens",
    "regions",
    "resource_groups",
    "role_assignments",
    "sign_ins",
    "spent_tokens",
    "storage_accounts",
    "subscriptions",
    "usage_samples",
    "users",
    "vault_credentials",
    "vaults",
    "virtual_machines",
    "workers",
]
