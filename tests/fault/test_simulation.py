"""The vault under a deterministic simulation of faults, crashes and races, by seed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from holdfast.errors import ObjectExistsError
from holdfast.ports.object_store import ObjectInfo, ObjectStore
from holdfast.testing.simulation import simulate
from holdfast.vaultstore import chain, collect, liveness, orphans
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.state import LogState

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


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Sweep without waiting for sessions, and forget what they pin."""
    patch.setattr(LogState, "fence_of", lambda _self, _at: [])
    for module in (liveness, collect):
        patch.setattr(module, "needed_points", lambda state: dict(state.points))


def log_read_first(patch: pytest.MonkeyPatch) -> None:
    """Look for orphans in a listing that is newer than the log that was read."""

    def find(core: VaultCore) -> list[ObjectInfo]:
        core.refresh()
        state = core.state
        listed = [info for room in orphans._ROOMS for info in core.objects.list(room)]
        points = (*state.points.values(), *state.expired.values())
        names = {point.op.refset.name for point in points}
        return list(orphans._unnamed(core, state, names, listed))

    patch.setattr(collect, "find_orphans", find)


def taken_is_mine(patch: pytest.MonkeyPatch) -> None:
    """Take any object of the key for one's own."""

    def create(store: ObjectStore, key: str, data: bytes) -> bool:
        with contextlib.suppress(ObjectExistsError):
            store.create(key, data)
        return True

    patch.setattr(chain, "create_or_find", create)


@pytest.mark.parametrize("broken", [no_fence, log_read_first, taken_is_mine])
def test_a_broken_vault_is_noticed(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    assert any(simulate(seed).failure for seed in SEEDS)
