"""Figures for Prometheus."""

from __future__ import annotations

from datetime import timedelta

from litestar import Response, get
from prometheus_client import Gauge, generate_latest

from holdfast.arm.guard import needs_on_installation
from holdfast.arm.http import ArmRequest, call_of, threaded
from holdfast.catalog import alerts, jobs, outbox
from holdfast.catalog.vaults import list_vaults
from holdfast.domain.alerts import severity_name
from holdfast.domain.health_events import EndedRun, health_events
from holdfast.services.figures import installation_figures
from holdfast.services.platform import Platform

EVENTS_OF = timedelta(hours=24)
jobs_gauge = Gauge("holdfast_jobs", "Jobs by kind and status", ["kind", "status"])
items_gauge = Gauge("holdfast_items", "Protected items by health", ["vault", "health"])
agents_gauge = Gauge("holdfast_agents", "Enrolled agents by connection", ["state"])
stored_gauge = Gauge("holdfast_vault_stored_bytes", "Bytes of packs in a vault", ["vault"])
points_gauge = Gauge("holdfast_vault_recovery_points", "Live recovery points", ["vault"])
head_gauge = Gauge("holdfast_vault_head", "Sequence of the last log record seen", ["vault"])
probe_gauge = Gauge(
    "holdfast_vault_store_sound", "1 when the last test of the vault's store passed", ["vault"]
)
alerts_gauge = Gauge("holdfast_alerts", "Alerts whose cause stands", ["vault", "severity", "state"])
waiting_gauge = Gauge(
    "holdfast_messages_waiting", "Messages about alerts not sent yet", ["channel"]
)
failing_gauge = Gauge(
    "holdfast_messages_failing", "Those of them that were tried in vain", ["channel"]
)
oldest_gauge = Gauge(
    "holdfast_messages_oldest_seconds", "Age of the oldest that waits", ["channel"]
)
ended_gauge = Gauge(
    "holdfast_messages", "Messages about alerts sent, or given up", ["channel", "state"]
)
events_gauge = Gauge(
    "holdfast_health_events",
    "Backups and restores that ended in the last 24 hours, by Azure's health of each",
    ["vault", "event", "health"],
)
GAUGES = (
    events_gauge,
    alerts_gauge,
    waiting_gauge,
    failing_gauge,
    oldest_gauge,
    ended_gauge,
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
    _watch(platform)
    return Response(generate_latest(), media_type="text/plain; version=0.0.4")


def _watch(platform: Platform) -> None:
    """Alerts, and the messages about them."""
    with platform.catalog.read() as connection:
        names = {row.id: f"{row.group_key}/{row.name}" for row in list_vaults(connection)}
        standing = alerts.counts(connection)
        waiting = outbox.waiting(connection)
        ended_jobs = jobs.ended_runs(connection, platform.now() - 2 * EVENTS_OF)
        ended = outbox.ended_counts(connection)
    for vault_id, severity, state, count in standing:
        alerts_gauge.labels(names.get(vault_id, ""), severity_name(severity), state).set(count)
    now = platform.now()
    runs = [
        EndedRun(
            row.vault_id, row.item_id or "", row.kind, row.status, row.error_code, row.ended_at
        )
        for row in ended_jobs
        if row.ended_at is not None
    ]
    for vault_id, event, health in health_events(runs, now - EVENTS_OF):
        events_gauge.labels(names.get(vault_id, ""), event, health).inc()
    for one in waiting:
        waiting_gauge.labels(one.channel).set(one.count)
        failing_gauge.labels(one.channel).set(one.failing)
        oldest_gauge.labels(one.channel).set((now - one.oldest).total_seconds())
    for channel, state, count in ended:
        ended_gauge.labels(channel, state).set(count)


ROUTES = [metrics]
