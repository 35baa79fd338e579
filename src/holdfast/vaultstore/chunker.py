"""Where the content of large files is cut: keyed FastCDC."""

from __future__ import annotations

from functools import cache

from blake3 import blake3
from pyfastcdc import FastCDC

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer

MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK = 256 * 1024, 1024 * 1024, 4 * 1024 * 1024
CHUNKER_NAME = "fastcdc-2020-seeded"
GOLDEN_SEED = 1  # public: golden cuts show the library's behaviour, never a vault's seed
_GOLDEN_BYTES = 8 * 1024 * 1024
SEED_MASK = (1 << 63) - 1
GOLDEN_CUTS = (1087357, 1712496, 336957, 1180926, 480971, 833137, 1262273, 1494491)


class Cutter:
    """Cuts a stream handed over in windows. Holds no state between calls: threads may share one.

    The first one in a process proves that the library cuts as the format says; IntegrityError
    (ChunkerChanged) when it does not."""

    def __init__(self, seed: int) -> None:
        check_library()
        self._cdc = _fastcdc(seed)

    def cut(self, window: Buffer, *, last: bool) -> list[int]:
        """Lengths of the chunks at the start of ``window``. Unless it is the ``last`` of the
        stream, what remains (up to MAX_CHUNK) must begin the next window, so that the cuts do not
        depend on the windows."""
        lengths: list[int] = []
        left = len(window)
        for chunk in self._cdc.cut_buf(window):
            if not last and left < MAX_CHUNK:
                break
            lengths.append(chunk.length)
            left -= chunk.length
        return lengths


def golden_cuts(seed: int = GOLDEN_SEED) -> list[int]:
    """Cut lengths over a fixed stream; kept in the vault's descriptor, so that a library that cuts
    otherwise is noticed before it costs deduplication."""
    stream = blake3(b"holdfast golden cut points").digest(length=_GOLDEN_BYTES)
    return [chunk.length for chunk in _fastcdc(seed).cut_buf(stream)]


@cache
def check_library() -> None:
    """IntegrityError (ChunkerChanged) when the library does not give GOLDEN_CUTS."""
    if tuple(golden_cuts()) != GOLDEN_CUTS:
        raise IntegrityError(
            "the chunking library cuts otherwise than the vault's format says",
            code="ChunkerChanged",
            hint="Install the version of pyfastcdc named in Holdfast's lock file.",
        )


def _fastcdc(seed: int) -> FastCDC:
    """The low 63 bits of the seed count: the library doubles it within 64 bits."""
    low = seed & SEED_MASK
    return FastCDC(avg_size=AVERAGE_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK, seed=low)
