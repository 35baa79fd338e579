"""Restore tests by policy: whether one is due, and what is asked of the guest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from holdfast.domain.policy_reading import integer, optional_part, refuse

KEY = "restoreTest"
MOST_DAYS, MOST_SECONDS, DEFAULT_SECONDS, MAX_SCRIPT = 365, 7200, 300, 32_768
EARLY = timedelta(hours=12)  # a backup of the same hour some days later is late enough


@dataclass(frozen=True, slots=True)
class RestoreTests:
    """``script``: for the guest's shell, "" for none; ``seconds``: for the guest to come up, and
    again for the script."""

    every_days: int
    script: str
    seconds: int


def read_restore_tests(properties: Mapping[str, Any]) -> RestoreTests | None:
    """Of a policy's properties; None when it asks for none. UsageError
    (UserErrorInvalidPolicyInput)."""
    found = optional_part(properties, KEY)
    if found is None:
        return None
    script = found.get("script") or ""
    if not isinstance(script, str) or len(script) > MAX_SCRIPT:
        raise refuse(
            "the script of restoreTest is no text, or too long",
            f"give it as text of at most {MAX_SCRIPT:,} characters",
        )
    seconds = found.get("timeoutSeconds")
    return RestoreTests(
        integer(found.get("everyDays"), "restoreTest.everyDays", 1, MOST_DAYS),
        script,
        integer(
            DEFAULT_SECONDS if seconds is None else seconds,
            "restoreTest.timeoutSeconds",
            1,
            MOST_SECONDS,
        ),
    )


def is_due(tests: RestoreTests, last: datetime | None, now: datetime) -> bool:
    """``last``: when one was begun. One that lies in the future (the clock was wrong) counts not
    at all."""
    if last is None or last > now:
        return True
    return now - last >= timedelta(days=tests.every_days) - EARLY
