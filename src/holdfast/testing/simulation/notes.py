"""What a long soak has done so far, in a file, so that it can be stopped and go on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
from blake3 import blake3

import holdfast
from holdfast.testing.simulation.faults import Tally
from holdfast.testing.simulation.stage import Results

_ROOMS = ("vaultstore", "testing/simulation", "adapters/object_store")


class _Noted(msgspec.Struct):
    code: str
    done: list[int]
    failed: dict[int, str]
    calls: int
    fewest: int
    faults: dict[str, int]
    crashes: dict[str, int]
    places: dict[str, int]


def code_id() -> str:
    """Names the code that is simulated: results of other code do not count."""
    root = Path(holdfast.__file__).parent
    hasher = blake3()
    for path in sorted(path for room in _ROOMS for path in (root / room).rglob("*.py")):
        hasher.update(path.read_bytes())
    return hasher.hexdigest(8)


def load(path: Path, code: str) -> Results:
    """What was noted of this code; nothing when there is none of it."""
    try:
        noted = msgspec.json.decode(path.read_bytes(), type=_Noted)
    except (FileNotFoundError, msgspec.MsgspecError):
        return Results()
    if noted.code != code:
        return Results()
    tally = Tally(Counter(noted.faults), Counter(noted.crashes), Counter(noted.places))
    return Results(set(noted.done), noted.failed, noted.calls, noted.fewest, tally)


def save(path: Path, code: str, results: Results) -> None:
    """Replace what is noted, whole."""
    tally = results.tally
    noted = _Noted(
        code=code,
        done=sorted(results.done),
        failed=results.failed,
        calls=results.calls,
        fewest=results.fewest,
        faults=dict(tally.faults),
        crashes=dict(tally.crashes),
        places=dict(tally.places),
    )
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(msgspec.json.encode(noted))
    beside.replace(path)
