"""Times and limits of the job engine. All in seconds unless named otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobSettings:
    """``agent_wait_seconds``: how long a job waits for an agent that does not call in.
    ``lease_seconds``: how long a task is an agent's without a sign from it. ``retry_seconds``:
    pauses before each further attempt; their number limits the attempts. ``tick_seconds``: how
    often due work is looked for. ``history_days``: how long ended jobs are kept.
    ``worker_lease_seconds``: after which silence other servers take a worker's jobs over
    (PostgreSQL only). ``long_jobs``: server-run jobs at a time. ``max_item_points``: recovery
    points of an item from which its scheduled backups are told of (they run all the same); 0 is no
    limit. ``collect_rewrite_below``: packs of which a smaller share is needed are rewritten; what a
    collect may do per second: ``collect_bytes``, ``collect_requests``; 0 is no limit.
    ``scrub_days``: how often each vault is scrubbed by itself; 0 for never. ``vault_every_run``:
    every run of an hourly policy of machines goes to the vault, not a day's last alone."""

    agent_wait_seconds: float = 900.0
    lease_seconds: float = 60.0
    retry_seconds: tuple[float, ...] = (10.0, 60.0, 300.0, 900.0)
    tick_seconds: float = 1.0
    history_days: int = 180
    maintenance_hours: float = 24.0
    worker_lease_seconds: float = 15.0
    threads: int = 12
    long_jobs: int = 3
    max_item_points: int = 0
    collect_rewrite_below: float = 0.5
    collect_bytes: float = 0.0
    collect_requests: float = 0.0
    scrub_days: float = 0.0
    vault_every_run: bool = False
