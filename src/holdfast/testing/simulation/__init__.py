"""Deterministic simulation of a vault: the shipped code, a hostile store, and one seed.

Actors are threads of which exactly one runs. Every store call, clock reading and random draw is a
point where a seeded choice decides who goes on, whether the call fails, and whether the process
dies there. The same seed gives the same run, so a failure is replayed by its seed:

    python -m holdfast.testing.simulation --seeds 1 --start SEED --trace
"""

from holdfast.testing.simulation.run import Outcome, simulate

__all__ = ["Outcome", "simulate"]
