"""How often a day something may be asked for, as an operator sets it; Azure has such limits too.

Whoever is refused is told when the next day (UTC) begins. Only what was done is counted: one is
taken before and given back when it failed, so that many at once get no more than there are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from holdfast.catalog import daily
from holdfast.errors import LimitError
from holdfast.services.platform import Platform


@dataclass(frozen=True, slots=True)
class DailyRate:
    """``kind``: how it is counted; ``setting``: who sets it; ``what``: for people."""

    kind: str
    setting: str
    what: str


POLICY_CHANGES = DailyRate("policy", "max_policy_changes_a_day", "changes of policies in a vault")
PROTECTION_CHANGES = DailyRate(
    "protection", "max_protection_changes_a_day", "changes of protection in a vault"
)
BACKUPS = DailyRate("backup", "max_backups_a_day", "backups of one item on demand")
RESTORES = DailyRate("restore", "max_restores_a_day", "restores of one item")
VM_BACKUPS = DailyRate("backup", "max_vm_backups_a_day", "backups of one virtual machine on demand")
VM_USES = DailyRate(
    "use", "max_restores_a_day", "restores of files, runs and tests of one virtual machine"
)
VM_RESTORES = DailyRate("restore", "max_vm_restores_a_day", "restores of one virtual machine")
WORTH_WAITING = 300  # seconds; clients that are told of more would sleep for hours without a word


class DailyLimitError(LimitError):
    """The day's number is used up. ``wait_seconds``: until the next day begins, when that is soon:
    az and the SDKs wait as they are told, and nobody would see why a script hangs until
    midnight."""

    code = "CloudDosAbsoluteLimitReached"

    def __init__(self, rate: DailyRate, most: int, wait_seconds: int) -> None:
        super().__init__(
            f"the limit of {rate.what} is {most} a day, and the day's are used up",
            hint=f"Try again after midnight UTC, or raise {rate.setting} in the server's settings.",
        )
        if wait_seconds <= WORTH_WAITING:
            self.wait_seconds = wait_seconds
        else:
            self.retry = "never"


@contextmanager
def within(platform: Platform, rate: DailyRate, subject_id: str) -> Iterator[None]:
    """Do something that counts for ``subject_id`` (a vault's or an item's id). DailyLimitError
    (CloudDosAbsoluteLimitReached) instead when it was done too often today."""
    most = int(getattr(platform.settings, rate.setting))
    now = platform.now().astimezone(UTC)
    if not most:
        yield
        return
    counted = (subject_id, rate.kind, now.date())
    with platform.catalog.write() as connection:
        taken = daily.take_one(connection, *counted, most)
    if not taken:
        raise DailyLimitError(rate, most, _until_midnight(now))
    try:
        yield
    except BaseException:
        with platform.catalog.write() as connection:
            daily.give_back(connection, *counted)
        raise


def _until_midnight(now: datetime) -> int:
    next_day = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    return max(1, math.ceil((next_day - now).total_seconds()))
