"""Grounds to kill programs on: SQLite and PostgreSQL, local disk and S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.testing.grounds import AT_SCALE, GROUNDS, Ground, ground

PACK_BYTES = 256 * 1024


@contextmanager
def _running(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Ground]:
    environment = {
        "HOLDFAST_PACK_TARGET_BYTES": str(PACK_BYTES),
        "HOLDFAST_TASK_LEASE_SECONDS": "5",
    }
    postgres = request.getfixturevalue("postgres_server") if "postgresql" in name else None
    s3 = request.getfixturevalue("s3_service") if "s3" in name else None
    with ground(name, folder, environment, postgres=postgres, s3=s3) as made:
        yield made


@pytest.fixture(scope="module", params=GROUNDS)
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    """A running world with small packs and short leases; each test has items of its own there."""
    name = str(request.param)
    with _running(name, request, tmp_path_factory.mktemp(name)) as made:
        yield made


@pytest.fixture
def yard_at_scale(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """The same over PostgreSQL and S3 at once."""
    with _running(AT_SCALE, request, tmp_path) as made:
        yield made
