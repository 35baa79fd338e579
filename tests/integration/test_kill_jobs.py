"""kill -9 at step borders: one of each kind here, all of them in tests/recovery."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.testing.killing import kill_and_go_on
from holdfast.testing.servers import Postgres

POINTS = [
    ("backup", "job.backup.dispatch.after@1"),
    ("backup", "agent.sent.after@1"),
    ("backup", "agent.commit.after@1"),
    ("incremental", "agent.sent.after@1"),
    ("restore", "agent.restored.after@1"),
    ("expire", "job.expire.apply.after@1"),
    ("purge", "job.purge.apply.after@1"),
]


@pytest.mark.parametrize(("kind", "point"), POINTS)
def test_a_killed_server_goes_on_after_its_start(kind: str, point: str, tmp_path: Path) -> None:
    folder = tmp_path / "yard"
    found = kill_and_go_on(folder, f"sqlite:///{folder / 'catalog.sqlite'}", kind, point)
    assert "resumed" in found.history


def test_another_server_takes_over_on_postgresql(tmp_path: Path, postgres_server: Postgres) -> None:
    url = postgres_server.database()
    point = "job.backup.publish.before@1"
    found = kill_and_go_on(tmp_path / "yard", url, "backup", point, successor="other")
    assert "resumed" in found.history
    assert found.job.driver == "other"
