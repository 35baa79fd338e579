"""Health events as Azure Backup has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast.domain.health_events import EndedRun, health_events

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def runs(*ends: tuple[str, str], kind: str = "backup", item: str = "i") -> list[EndedRun]:
    return [
        EndedRun("v", item, kind, status, code, NOW + timedelta(hours=number))
        for number, (status, code) in enumerate(ends)
    ]


def test_the_same_error_again_is_persistent_and_success_is_healthy() -> None:
    ended = runs(
        ("Failed", "SourcePathMissing"),
        ("Failed", "SourcePathMissing"),
        ("Cancelled", ""),
        ("Failed", "StoreFull"),
        ("Failed", "StoreFull"),
        ("CompletedWithWarnings", ""),
        ("Failed", "StoreFull"),
    )
    assert [health for _, _, health in health_events(ended, NOW)] == [
        "Transient Degraded",
        "Persistent Degraded",
        "Transient Unhealthy",
        "Persistent Unhealthy",
        "Healthy",
        "Transient Unhealthy",
    ]


def test_items_and_kinds_stand_apart() -> None:
    failed = ("Failed", "AgentOffline")
    ended = [*runs(failed), *runs(failed, item="j"), *runs(failed, kind="restore")]
    assert list(health_events(ended, NOW)) == [
        ("v", "BackupHealthEvent", "Transient Degraded"),
        ("v", "BackupHealthEvent", "Transient Degraded"),
        ("v", "RestoreHealthEvent", "Transient Degraded"),
    ]


def test_what_ended_before_only_says_whether_it_is_the_same_error() -> None:
    ended = runs(("Failed", "StoreFull"), ("Failed", "StoreFull"))
    later = NOW + timedelta(minutes=1)
    assert [health for _, _, health in health_events(ended, later)] == ["Persistent Unhealthy"]
