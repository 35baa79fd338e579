"""The vault under a deterministic simulation of faults, crashes and races, by seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from holdfast.testing.simulation import simulate

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_invariant_holds(seed: int) -> None:
    outcome = simulate(seed)
    end = "\n".join(outcome.trace[-30:])
    assert not outcome.failure, f"{end}\n{outcome.failure}\nreplay: {outcome.replay()}"
    assert outcome.figures["points"] > 0


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    """Also when sets are ordered otherwise, which is what differs between two processes."""
    command = [sys.executable, "-m", "holdfast.testing.simulation", "--seeds", "2", "--start", "7"]
    lines = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, capture_output=True, env=environment, check=True, text=True)
        lines.append([line for line in done.stdout.splitlines() if line.startswith("seed")])
    assert lines[0] == lines[1]
    assert len(lines[0]) == 2
