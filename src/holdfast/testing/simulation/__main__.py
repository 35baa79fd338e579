"""Run seeds: ``python -m holdfast.testing.simulation --seeds N --start S [--trace]``.

With ``--workers`` it is a stage: all seeds must hold, and every kind of fault and every crash point
must have fired. ``--notes FILE`` keeps what is done, for a soak that is stopped and goes on.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from holdfast.testing.simulation import notes
from holdfast.testing.simulation.mutants import MUTANTS, hunt
from holdfast.testing.simulation.run import Outcome, simulate
from holdfast.testing.simulation.stage import Results, Watch, summary, workers
from holdfast.testing.simulation.world import CALLS

EVERY = 10.0  # [s] between two lines that tell how far a stage is


def main() -> int:
    """Exit status 1 when a seed fails, a fault never fired or a mutant survives, 130 when
    cancelled."""
    asked = _parser().parse_args()
    if asked.mutants:
        return _mutants(asked)
    if asked.trace or asked.workers == 0:
        return _one_by_one(asked)
    return _stage(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m holdfast.testing.simulation")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--trace", action="store_true", help="print every step")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes to use (0: none, a line for each seed)"
    )
    parser.add_argument("--calls", type=int, default=CALLS, help="of the store, in each seed")
    parser.add_argument("--notes", type=Path, help="keep what is done in FILE and go on from it")
    parser.add_argument(
        "--mutants", action="store_true", help="sabotage the vault; each must be noticed"
    )
    parser.add_argument("--only", choices=sorted(MUTANTS), help="of the mutants, this one")
    return parser


def _one_by_one(asked: argparse.Namespace) -> int:
    began = time.perf_counter()
    failed = 0
    for seed in range(asked.start, asked.start + asked.seeds):
        outcome = simulate(seed, _say if asked.trace else None, asked.calls)
        _say(_line(outcome))
        if outcome.failure:
            failed += 1
            _tell_failure(outcome)
    _say(f"{asked.seeds} seeds, {failed} failed, {time.perf_counter() - began:.1f} s")
    return 1 if failed else 0


def _stage(asked: argparse.Namespace) -> int:
    """Seeds on several processes; all kinds of faults must fire."""
    code = f"{notes.code_id()} {asked.calls}"
    results = notes.load(asked.notes, code) if asked.notes else Results()
    wanted = range(asked.start, asked.start + asked.seeds)
    left = [seed for seed in wanted if seed not in results.done]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _play(asked, results, left, code)
    except KeyboardInterrupt:
        again = "run the same again to go on" if asked.notes else "nothing was kept"
        _say(f"cancelled after {len(results.done)} seeds; {again}")
        return 130
    finally:
        if asked.notes:
            notes.save(asked.notes, code, results)
    return _verdict(results)


def _play(asked: argparse.Namespace, results: Results, left: list[int], code: str) -> None:
    _say(f"{len(left)} seeds on {asked.workers} processes")
    if results.done:
        _say(f"going on after {len(results.done)} seeds that were done with this code")
    watch = Watch(len(results.done) + len(left), len(results.done), _say, EVERY)
    with workers(asked.workers, asked.calls) as play:
        for outcome in play(left):
            results.add(outcome)
            if outcome.failure:
                _tell_failure(outcome)
            if watch.tell(results) and asked.notes:
                notes.save(asked.notes, code, results)


def _verdict(results: Results) -> int:
    _say(summary(results))
    for complaint in results.complaints():
        _say(complaint)
    for seed in sorted(results.failed):
        _say(f"seed {seed} failed; replay: {Outcome(seed, '', 0, '').replay()}")
    bad = results.failed or results.complaints()
    _say(f"{len(results.done)} seeds, {len(results.failed)} failed")
    return 1 if bad else 0


def _mutants(asked: argparse.Namespace) -> int:
    """Each sabotage must make a seed fail."""
    names = [asked.only] if asked.only else sorted(MUTANTS)
    seeds = range(asked.start, asked.start + asked.seeds)
    survived = hunt(names, seeds, asked.workers or os.cpu_count() or 1, _say)
    _say(f"{len(names)} mutants, {len(survived)} survived {asked.seeds} seeds")
    return 1 if survived else 0


def _tell_failure(outcome: Outcome) -> None:
    _say("\n".join(outcome.trace[-40:]))
    _say(f"{outcome.failure}\nreplay: {outcome.replay()}")


def _line(outcome: Outcome) -> str:
    counts = {**outcome.figures, **outcome.tally.faults}
    figures = " ".join(f"{name}={count}" for name, count in counts.items())
    state = "FAILED" if outcome.failure else "ok"
    return f"seed {outcome.seed} {state} {outcome.digest} steps={outcome.steps} {figures}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
