"""Many seeds on several processes: what failed, what fired, and where to go on after a stop."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from holdfast.testing.simulation.faults import CRASH_PLACES, FAULTS, Tally
from holdfast.testing.simulation.run import Outcome, simulate
from holdfast.testing.simulation.world import CALLS

SEEDS_OF_A_WORKER = 100  # then it makes room for a new one
TRACE_SHOWN = 40


@dataclass
class Results:
    """What the seeds so far came to. ``failed``: seed and why."""

    done: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)
    calls: int = 0
    fewest: int = 0
    tally: Tally = field(default_factory=Tally)

    def add(self, outcome: Outcome) -> None:
        self.done.add(outcome.seed)
        self.tally.add(outcome.tally)
        if outcome.failure:
            self.failed[outcome.seed] = outcome.failure
            return
        calls = outcome.figures["calls"]
        self.calls += calls
        self.fewest = min(self.fewest or calls, calls)

    def complaints(self) -> list[str]:
        """Why these seeds do not count as a stage."""
        never = [f"never happened: {what}" for what in self.tally.never()]
        few = self.fewest < CALLS
        return never + [f"a seed made only {self.fewest} store calls"] * few


def play(seed: int, calls: int = CALLS) -> Outcome:
    """One seed, whatever happens; only a failing one brings its trace."""
    try:
        outcome = simulate(seed, calls=calls)
    except Exception as error:  # noqa: BLE001 - a simulation that breaks is a finding too
        return Outcome(seed, "", 0, f"the simulation broke: {error!r}")
    shown = outcome.trace[-TRACE_SHOWN:] if outcome.failure else ()
    return replace(outcome, trace=shown)


@contextmanager
def workers(count: int, calls: int) -> Iterator[Callable[[Iterable[int]], Iterator[Outcome]]]:
    """Processes that play seeds; outcomes come as they end. Leaving ends them at once."""
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(count, _be_quiet, maxtasksperchild=SEEDS_OF_A_WORKER)
    try:
        yield lambda seeds: pool.imap_unordered(partial(play, calls=calls), seeds)
    finally:
        pool.terminate()
        pool.join()


def _be_quiet() -> None:
    """An interrupt is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Watch:
    """Says how far it is, every ``every`` seconds."""

    def __init__(self, total: int, done: int, say: Callable[[str], None], every: float) -> None:
        self._total, self._before, self._say, self._every = total, done, say, every
        self._began = self._last = time.monotonic()

    def tell(self, results: Results) -> bool:
        """Whether it was time to say something."""
        now = time.monotonic()
        if now - self._last < self._every:
            return False
        self._last = now
        done, took = len(results.done), now - self._began
        left = (self._total - done) * took / max(1, done - self._before)
        self._say(
            f"{done} of {self._total} seeds, {len(results.failed)} failed, {took:.0f} s, "
            f"about {left:.0f} s left"
        )
        return True


def summary(results: Results) -> str:
    """How often each kind of fault and each crash point fired."""
    tally = results.tally
    lines = [f"{results.calls} store calls, at least {results.fewest} in each seed", "faults:"]
    lines += [f"{tally.faults[kind]:9}  {kind}: {text}" for kind, text in FAULTS.items()]
    lines.append("crashes, of so many times that a process passed the place:")
    for place in sorted({*CRASH_PLACES, *tally.places}):
        lines.append(f"{tally.crashes[place]:9}  {place} ({tally.places[place]})")
    return "\n".join(lines)
