"""The rules of alerts: one per cause, news of it, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.alerts import (
    CLOSED,
    NEW,
    RULES,
    SETTLING,
    EndedJob,
    Verb,
    agent_is_lost,
    back_off,
    causes_of_job,
    check_state,
    shortened,
    step,
    wanted,
)
from holdfast.domain.mail_names import is_address
from holdfast.domain.retention import RetentionRule
from holdfast.errors import UsageError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
VERBS: tuple[Verb, ...] = ("happened", "lasts", "over")


@given(st.lists(st.sampled_from([*VERBS, "close"])))
def test_there_is_one_alert_at_a_time_and_every_end_is_told(events: Sequence[str]) -> None:
    """A cause that is there has a standing alert, one that is over has none."""
    state: str | None = None
    raised = resolved = 0
    there = False
    for event in events:
        if event == "close":
            state = CLOSED if state else None
            continue
        verb: Verb = event  # type: ignore[assignment]
        taken = step(state, verb)
        if taken in ("resolve", "replace"):
            assert state is not None
            state, resolved = None, resolved + 1
        if taken in ("raise", "replace"):
            assert state is None
            state, raised = NEW, raised + 1
        there = verb != "over"
        assert (state is not None) == there
        if verb == "happened":
            assert state != CLOSED, "news is never hidden behind a closed alert"
    assert raised - resolved == int(there)


@pytest.mark.parametrize(
    ("kind", "status", "code", "causes"),
    [
        ("backup", "Failed", "AgentOffline", ["BackupFailure happened"]),
        ("backup", "Completed", "", ["BackupFailure over", "BackupWarnings over"]),
        (
            "backup",
            "CompletedWithWarnings",
            "",
            ["BackupFailure over", "BackupWarnings happened"],
        ),
        ("backup", "Cancelled", "", []),
        ("restore", "Failed", "X", ["RestoreFailure happened"]),
        ("restore", "CompletedWithWarnings", "", ["RestoreFailure over"]),
        ("verify", "Failed", "VaultDamaged", ["VaultDamaged happened", "UpkeepFailure over"]),
        ("verify", "Failed", "StoreUnavailable", ["UpkeepFailure happened"]),
        ("verify", "Completed", "", ["UpkeepFailure over", "VaultDamaged over"]),
        ("collect", "Failed", "X", ["UpkeepFailure happened"]),
        ("expire", "Completed", "", ["UpkeepFailure over"]),
    ],
)
def test_what_the_end_of_a_job_says(kind: str, status: str, code: str, causes: list[str]) -> None:
    found = list(causes_of_job(EndedJob(kind, status, code, "thing")))
    assert [f"{cause.rule} {cause.verb}" for cause in found] == causes
    assert all(cause.rule in RULES and cause.about.startswith("thing") for cause in found)


def test_expire_and_collect_fail_apart() -> None:
    about = {
        kind: {cause.about for cause in causes_of_job(EndedJob(kind, "Failed", "X", "v"))}
        for kind in ("expire", "collect")
    }
    assert about["expire"].isdisjoint(about["collect"])


def test_an_agent_is_lost_only_to_a_server_that_listened() -> None:
    day = timedelta(hours=24)
    silent = NOW - timedelta(hours=30)
    assert agent_is_lost(silent, NOW - timedelta(days=9), NOW, day)
    assert not agent_is_lost(silent, NOW - SETTLING / 2, NOW, day)
    assert not agent_is_lost(NOW - timedelta(hours=23), NOW - timedelta(days=9), NOW, day)


def test_alerts_of_jobs_can_be_switched_off_and_security_cannot() -> None:
    off = {name for name, rule in RULES.items() if not wanted(rule, "Disabled")}
    assert {"BackupFailure", "RestoreFailure"} <= off
    assert off.isdisjoint({"DeleteBackupData", "ShorterPolicyRetention", "VaultDamaged"})
    assert all(wanted(rule, "Enabled") for rule in RULES.values())


def test_shorter_retention_in_words() -> None:
    old = [RetentionRule("daily", 30), RetentionRule("weekly", 84), RetentionRule("yearly", 366)]
    new = [RetentionRule("daily", 7), RetentionRule("weekly", 91), RetentionRule("monthly", 31)]
    assert shortened(old, new) == ["daily 30 to 7 days", "yearly 366 days to none"]
    assert shortened(new, [*new, RetentionRule("yearly", 1)]) == []


def test_pauses_grow_and_end_at_five_minutes() -> None:
    pauses = [back_off(attempt).total_seconds() for attempt in range(1, 60)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (5, 300)


def test_states_in_any_case() -> None:
    assert check_state("acknowledged") == "Acknowledged"
    with pytest.raises(UsageError, match="is no state"):
        check_state("Done")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("ann@example.org", True),
        ("a.b+c@mail.example.org", True),
        ("root@localhost", True),
        ("ann", False),
        ("ann@example.org\nBcc: eve@example.org", False),
        ("Ann <ann@example.org>", False),
        ("a@b,c@d", False),
        ("ann@example.org ", False),
        ("@example.org", False),
        ("a" * 250 + "@b.org", False),
    ],
)
def test_mail_addresses(text: str, right: bool) -> None:
    assert is_address(text) is right
