"""Grounds to kill programs on: SQLite and PostgreSQL, local disk and S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.grounds import GROUNDS, Ground, ground

PACK_BYTES = 256 * 1024


@pytest.fixture(params=GROUNDS)
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """A running world with small packs and short leases."""
    name = str(request.param)
    environment = {
        "HOLDFAST_PACK_TARGET_BYTES": str(PACK_BYTES),
        "HOLDFAST_TASK_LEASE_SECONDS": "5",
    }
    postgres = request.getfixturevalue("postgres_server") if "postgresql" in name else None
    s3 = request.getfixturevalue("s3_service") if "s3" in name else None
    with ground(name, tmp_path, environment, postgres=postgres, s3=s3) as made:
        yield made
