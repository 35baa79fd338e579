"""When a vault is scrubbed by itself: pure rules over its last scrub."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zlib import crc32

AGAIN = timedelta(days=1)  # after a run that did not come to its end, and before the first


@dataclass(frozen=True, slots=True)
class LastScrub:
    """``whole``: it came to its end, whatever it found."""

    began: datetime
    whole: bool


def scrub_due(
    vault_id: str, created_at: datetime, last: LastScrub | None, every: timedelta
) -> datetime:
    """When a vault's next scrub is due. The first ones are spread over the period by the vaults'
    ids, so that vaults made on one day are not all read on another."""
    if last is not None:
        return last.began + (every if last.whole else min(AGAIN, every))
    share = crc32(vault_id.encode()) / 2**32
    least = min(AGAIN, every)
    return created_at + least + (every - least) * share


def is_due(
    vault_id: str, created_at: datetime, last: LastScrub | None, every: timedelta, now: datetime
) -> bool:
    """Whether that time has come. A last scrub that lies ahead was begun by a wrong clock, and
    holds nothing up."""
    if last is not None and last.began > now:
        return True
    return now >= scrub_due(vault_id, created_at, last, every)
