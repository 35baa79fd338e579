"""kill -9 of server and agent at every step border of every kind of job, on both databases.

The vault lies on disk and in S3 in turn: each border on disk with one database, in S3 with the
other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import make_url

from holdfast.testing.killing import copy_yard, in_s3, kill_and_go_on, points_of, prepare_yard
from holdfast.testing.servers import Postgres, S3Service

KINDS = ["backup", "incremental", "restore", "expire", "collect", "verify", "purge"]


def is_border(point: str) -> bool:
    """Places within a step are killed at with real programs; how many turns a job waits after its
    first depends on timing, so each border is killed at when it is passed first."""
    name, _, count = point.partition("@")
    return not name.startswith("vault.") and count == "1"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_step_border(
    kind: str, engine: str, tmp_path: Path, s3_service: S3Service, request: pytest.FixtureRequest
) -> None:
    def copied(name: str, store: Mapping[str, str] | None = None) -> str:
        """The catalog of a copy of what was prepared once."""
        copy_yard(prepared, tmp_path / name, store)
        return url(name, database)

    def url(name: str, template: str = "template1") -> str:
        if engine == "sqlite":
            return f"sqlite:///{tmp_path / name / 'catalog.sqlite'}"
        server: Postgres = request.getfixturevalue("postgres_server")
        return server.database(template)

    prepared, first = tmp_path / "prepared", url("prepared")
    database = str(make_url(first).database)
    prepare_yard(prepared, first, kind)
    passed = points_of(tmp_path / "whole", copied("whole"), kind)
    passed = [point for point in passed if is_border(point)]
    assert len(passed) >= 6
    for number, point in enumerate(passed):
        folder, remote = tmp_path / f"killed-{number}", number % 2 == (engine == "postgresql")
        store = in_s3(s3_service, folder) if remote else None
        found = kill_and_go_on(folder, copied(folder.name, store), kind, point, store=store)
        if found.was_active:
            assert "resumed" in found.history, point
        else:  # it may end while the agent still hears that its report was taken
            assert point.startswith(("job.settle.after", "agent.complete.after")), point
