"""What a recovery point tells of keys, from what the backup's agent said: also one that lies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.catalog.points import PointRow
from holdfast.jobs.facts import point_row
from holdfast.vaultstore.values import RecoveryPointRecord

GOOD = {"name": "web1-root", "version": "2", "luns": (-1, 0)}


def row(extra: dict[str, Any], document: dict[str, Any] | None = None) -> PointRow:
    record = RecoveryPointRecord(
        rp_id="1",
        item_key="c/i",
        job_id=bytes(16),
        sequence=1,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        type="Full",
        scheduled=True,
        tags=(),
        retain_until=None,
        root_id=bytes(32),
        logical_bytes=0,
        transferred_bytes=0,
        stored_bytes=0,
        file_count=0,
        findings_count=0,
        consistency="CrashConsistent",
        consistency_reason="",
        item_document=document or {"virtualMachine": {"name": "web1"}},
        extra=extra,
    )
    return point_row(record, "v", "i")


def test_names_and_versions_are_told() -> None:
    told = row({"encrypted": True, "keys": [GOOD], "keysMissing": ["web1-data"]}).details
    assert told["encryption"] == {"keys": [GOOD], "keysMissing": ["web1-data"]}


def test_a_machine_without_keys_is_not_encrypted() -> None:
    assert row({"disks": []}).details == {"machine": {"name": "web1"}}
    assert row({"encrypted": "yes"}).details == {"machine": {"name": "web1"}}


@pytest.mark.parametrize(
    "keys",
    [
        None,
        "web1",
        [{"name": "a/../b", "version": "1"}],
        [{**GOOD, "version": "\x1b[2J"}],
        [GOOD] * 66,
    ],
)
def test_what_is_no_list_of_keys_is_not_told(keys: object) -> None:
    told = row({"encrypted": True, "keys": keys, "keysMissing": []}).details
    assert told["encryption"] == {"keys": [], "keysMissing": []}


def test_a_value_is_dropped_whoever_sends_it() -> None:
    told = row({"encrypted": True, "keys": [{**GOOD, "value": "secret"}], "keysMissing": []})
    assert "secret" not in str(told)
