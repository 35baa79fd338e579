"""Submitting a job of a host on a recovery point of a virtual machine."""

from __future__ import annotations

from typing import Any, Protocol

from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.points import PointRow
from holdfast.catalog.vaults import VaultRow
from holdfast.ports.jobs import JobKind, JobSpec
from holdfast.ports.vm_tasks import Target, to_target
from holdfast.services.platform import Platform


class OnPoint(Protocol):
    """``host``: the container that does it; ``target``: what."""

    @property
    def item(self) -> ItemRow: ...

    @property
    def point(self) -> PointRow: ...

    @property
    def host(self) -> ContainerRow: ...

    @property
    def target(self) -> Target: ...


def submit_on_point(
    platform: Platform,
    vault: VaultRow,
    plan: OnPoint,
    by: str,
    *,
    kind: JobKind = "restore",
    **parameters: Any,
) -> str:
    """The job's id. ``parameters``: of the job, beside those all have."""
    spec = JobSpec(
        kind=kind,
        vault_id=vault.id,
        entity_name=plan.item.friendly_name,
        item_id=plan.item.id,
        container_id=plan.host.id,
        parameters={
            "recoveryPointId": plan.point.rp_id,
            "pointTime": plan.point.time.isoformat(),
            "target": to_target(plan.target),
            **parameters,
        },
        created_by=by,
    )
    return platform.jobs.submit(spec)
