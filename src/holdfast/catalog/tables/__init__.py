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
from holdfast.catalog.tables.work import (
    ACTIVE_SQL,
    ACTIVE_STATUSES,
    agent_sessions,
    agent_tasks,
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
    "agent_sessions",
    "agent_tasks",
    "agents",
    "audit",
    "containers",
    "items",
    "job_findings",
    "job_history",
    "jobs",
    "maintenance_runs",
    "meta",
    "metadata",
    "operations",
    "policies",
    "principals",
    "recovery_points",
    "regions",
    "resource_groups",
    "role_assignments",
    "spent_tokens",
    "subscriptions",
    "vault_credentials",
    "vaults",
    "workers",
]
