"""Every body we write, in each state of its row, is what the SDK says, read strictly."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from azure.mgmt.recoveryservices import models as rs
from azure.mgmt.recoveryservicesbackup import models as rsb

from holdfast.arm import wire
from holdfast.catalog.jobs import FindingRow, JobEvent, JobRow
from holdfast.domain.default_policies import default_policies
from holdfast.domain.lifecycle import ENDED
from holdfast.domain.policy import parse_policy
from holdfast.jobs.ledger import OPERATIONS
from holdfast.services.item_views import ItemView
from holdfast.testing.catalog_rows import Estate, estate_rows, job_of, point_of
from holdfast.testing.ports import SeededRandom
from holdfast.testing.sdk_shapes import check_shape

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
VAULT = "/subscriptions/s/resourceGroups/rg1/providers/Microsoft.RecoveryServices/vaults/v1"
STATUSES = ["InProgress", "Cancelling", *sorted(ENDED)]


@pytest.fixture(scope="module")
def estate() -> Estate:
    return estate_rows(SeededRandom(3), NOW)


def job(estate: Estate, kind: str, status: str) -> JobRow:
    row = replace(job_of("j1", estate.item, NOW), kind=kind, operation=OPERATIONS[kind])
    if status == "Failed":
        wrong = {"error_code": "SourceGone", "error_message": "gone", "error_hint": "mend it"}
        row = replace(row, **wrong)
    return replace(row, status=status, ended_at=NOW if status in ENDED else None)


@pytest.mark.parametrize(("kind", "status"), list(product(OPERATIONS, STATUSES)))
def test_jobs(estate: Estate, kind: str, status: str) -> None:
    row = job(estate, kind, status)
    history = [JobEvent(row.id, NOW, "started", "it began")]
    findings = [FindingRow(row.id, "FileBusy", "/a", "it is busy", "d")]
    for body in (
        wire.job_body(row, VAULT, NOW),
        wire.job_body(row, VAULT, NOW, history, findings),
    ):
        check_shape(rsb.JobResource(body))


def view(estate: Estate, **changes: Any) -> ItemView:
    policy = None if changes.get("policy_id", "") is None else estate.policy
    item = replace(estate.item, **changes)
    parsed = parse_policy(policy.properties) if policy else None
    return ItemView(
        item, estate.container, policy, overdue=True, points=3, oldest=NOW, now=NOW, parsed=parsed
    )


STATES: list[dict[str, Any]] = [
    {},
    {"protection_state": "Protected", "last_backup_status": "Completed", "last_backup_at": NOW},
    {"protection_state": "ProtectionError", "last_backup_status": "Failed", "last_error_code": "X"},
    {"protection_state": "ProtectionStopped", "policy_id": None},
    {"protection_state": "BackupsSuspended", "latest_point_at": NOW, "latest_point_id": "1"},
    {"properties": {"throttleBytesPerSecond": 5000}},
]


@pytest.mark.parametrize("changes", STATES, ids=str)
def test_items(estate: Estate, changes: dict[str, Any]) -> None:
    body = wire.item_body(view(estate, **changes), VAULT)
    read = rsb.ProtectedItemResource(body)
    check_shape(read)
    assert isinstance(read.properties, rsb.MabFileFolderProtectedItem)


@pytest.mark.parametrize("newest", [True, False])
def test_points(estate: Estate, newest: bool) -> None:
    held = point_of(estate.item, 7, NOW - timedelta(days=3))
    for row in (held, replace(held, tags=[], retain_until=NOW)):
        for changes in STATES:
            body = wire.point_body(row, view(estate, **changes), VAULT, newest=newest)
            read = rsb.RecoveryPointResource(body)
            check_shape(read)
            assert isinstance(read.properties, rsb.GenericRecoveryPoint)


def test_machines_with_and_without_an_agent(estate: Estate) -> None:
    for agent in (estate.agent, None):
        read = rsb.ProtectionContainerResource(
            wire.container_body(estate.container, VAULT, agent, 2)
        )
        check_shape(read)
        assert isinstance(read.properties, rsb.MabContainer)


@pytest.mark.parametrize("name", default_policies())
def test_policies_of_a_new_vault(estate: Estate, name: str) -> None:
    row = replace(estate.policy, name=name, properties=default_policies()[name])
    check_shape(rsb.ProtectionPolicyResource(wire.policy_body(row, VAULT, 0)))


@pytest.mark.parametrize("state", ["Active", "Provisioning"])
def test_vaults(estate: Estate, state: str) -> None:
    asked: dict[str, Any] = {
        "properties": {
            "monitoringSettings": {"azureMonitorAlertSettings": None},
            "securitySettings": None,
            "publicNetworkAccess": "Enabled",
        },
        "identity": {"type": "SystemAssigned"},
        "sku": None,
    }
    for properties in ({}, asked):
        row = replace(estate.vault, state=state, properties=properties)
        check_shape(rs.Vault(wire.vault_body(row, "rg1", {"region": "local"})))
