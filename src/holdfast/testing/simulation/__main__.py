"""Run seeds: ``python -m holdfast.testing.simulation --seeds N --start S [--trace]``."""

from __future__ import annotations

import argparse
import sys
import time

from holdfast.testing.simulation.run import Outcome, simulate


def main() -> int:
    """Exit status 1 when a seed fails; its end and how to replay it are printed."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.testing.simulation")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--trace", action="store_true", help="print every step")
    asked = parser.parse_args()
    began = time.perf_counter()
    failed = 0
    for seed in range(asked.start, asked.start + asked.seeds):
        outcome = simulate(seed, _say if asked.trace else None)
        _say(_line(outcome))
        if outcome.failure:
            failed += 1
            _say("\n".join(outcome.trace[-40:]))
            _say(f"{outcome.failure}\nreplay: {outcome.replay()}")
    _say(f"{asked.seeds} seeds, {failed} failed, {time.perf_counter() - began:.1f} s")
    return 1 if failed else 0


def _line(outcome: Outcome) -> str:
    figures = " ".join(f"{name}={count}" for name, count in outcome.figures.items())
    state = "FAILED" if outcome.failure else "ok"
    return f"seed {outcome.seed} {state} {outcome.digest} steps={outcome.steps} {figures}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
