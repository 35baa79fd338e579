"""Damage as the jobs meet it: found, remembered by the catalog and the vault, and healed by the
next backup without anybody asking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.catalog import jobs, upkeep
from holdfast.testing.job_yard import FILES, VAULT_ID, JobYard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[JobYard]:
    with JobYard(tmp_path, f"sqlite:///{tmp_path / 'catalog.sqlite'}") as made:
        yield made


def flip_in_largest(folder: Path) -> str:
    path = max(folder.glob("vaults/*/packs/*/*"), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[600] ^= 1  # in the first frame, behind the header
    path.chmod(0o600)
    path.write_bytes(data)
    return path.name


def test_a_backup_heals_the_points_before_it(yard: JobYard, tmp_path: Path) -> None:
    first = str(yard.run("backup").result["recoveryPointId"])
    whole = yard.run("scrub")
    assert whole.status == "Completed", whole.error_message
    pack = flip_in_largest(tmp_path)
    scrubbed = yard.run("scrub")
    assert (scrubbed.status, scrubbed.error_code) == ("Failed", "VaultDamaged")
    repaired = yard.run("repair")
    assert (repaired.status, repaired.result["left"]) == ("CompletedWithWarnings", 1)
    with yard.catalog.read() as connection:
        told = jobs.findings_of(connection, repaired.id)
        ran = upkeep.last_run(connection, VAULT_ID, "scrub")
    assert [(one.code, pack in one.path) for one in told] == [("ObjectLost", True)]
    assert first in told[0].message
    assert "a/" in told[0].message, "the files are named"
    assert ran is not None
    assert ran.status == "Failed"
    yard.run("backup")
    assert yard.run("verify").status == "Completed"
    assert yard.run("scrub").status == "Completed"
    assert yard.run("restore", recoveryPointId=first).status == "Completed"
    assert yard.agent.restored == FILES
