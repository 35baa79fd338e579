"""What a backup of files keeps to and says, seen from the command line: speed, names, findings."""

from __future__ import annotations

import os
import time
from pathlib import Path

from holdfast.testing.world import HOST, World


def test_a_throttled_backup_takes_the_time_its_bytes_need(world: World, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(1_500_000))
    rate = 1_000_000
    words = ("item", "protect", "slow", "--container", HOST, "--policy", "DefaultPolicy")
    world.ok(*words, "--include", tmp_path, "--throttle", "1MB")
    shown = world.ok("item", "show", "slow", "--container", HOST).out
    assert "throttle: 1.0 MB/s" in shown
    began = time.monotonic()
    world.back_up(item="slow")
    took = time.monotonic() - began
    sent = world.points("slow")[0]["properties"]["holdfast"]["transferredBytes"]
    assert sent > 1_500_000
    assert took >= sent / rate
    world.ok("item", "update", "slow", "--container", HOST, "--throttle", "none")
    item = world.ask("item", "show", "slow", "--container", HOST)
    assert item["properties"]["holdfast"]["throttleBytesPerSecond"] is None
