"""Figures for Prometheus."""

from __future__ import annotations

from litestar import Response, get
from prometheus_client import Gauge, generate_latest

from holdfast.arm.guard import needs_on_installation
from holdfast.arm.http import ArmRequest, call_of, threaded
from holdfast.catalog import jobs
from holdfast.services.figures import installation_figures

jobs_gauge = Gauge("holdfast_jobs", "Jobs by kind and status", ["kind", "status"])
items_gauge = Gauge("holdfast_items", "Protected items by health", ["vault", "health"])
agents_gauge = Gauge("holdfast_agents", "Enrolled agents by connection", ["state"])
stored_gauge = Gauge("holdfast_vault_stored_bytes", "Bytes of packs in a vault", ["vault"])
points_gauge = Gauge("holdfast_vault_recovery_points", "Live recovery points", ["vault"])
head_gauge = Gauge("holdfast_vault_head", "Sequence of the last log record seen", ["vault"])
probe_gauge = Gauge(
    "holdfast_vault_store_sound", "1 when the last test of the vault's store passed", ["vault"]
)
GAUGES = (
    jobs_gauge,
    items_gauge,
    agents_gauge,
    stored_gauge,
    points_gauge,
    head_gauge,
    probe_gauge,
)


@get("/metrics", opt=needs_on_installation("Holdfast.Backup/metrics/read"))
@threaded
def metrics(request: ArmRequest) -> Response[bytes]:
    """Prometheus text."""
    platform = call_of(request).platform
    with platform.catalog.read() as connection:
        counted = jobs.counts_by_kind(connection)
    found = installation_figures(platform)
    for gauge in GAUGES:
        gauge.clear()
    for kind, status, count in counted:
        jobs_gauge.labels(kind, status).set(count)
    agents_gauge.labels("connected").set(found.agents_connected)
    agents_gauge.labels("silent").set(found.agents_silent)
    for vault in found.vaults:
        for health, count in vault.items.items():
            items_gauge.labels(vault.name, health).set(count)
        stored_gauge.labels(vault.name).set(vault.stored_bytes)
        points_gauge.labels(vault.name).set(vault.recovery_points)
        head_gauge.labels(vault.name).set(vault.head)
        probe_gauge.labels(vault.name).set(vault.store_sound)
    return Response(generate_latest(), media_type="text/plain; version=0.0.4")


ROUTES = [metrics]
