"""Where content is cut: keyed FastCDC for large files, content-defined bundles for small ones."""

from __future__ import annotations

from blake3 import blake3
from pyfastcdc import FastCDC

from holdfast.ports.object_store import Buffer

MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK = 256 * 1024, 1024 * 1024, 4 * 1024 * 1024
SMALL_FILE_BYTES = 128 * 1024  # smaller files go into bundles
BUNDLE_MIN, BUNDLE_MAX = 256 * 1024, 4 * 1024 * 1024
BUNDLE_EXPECTED = 768 * 1024  # bytes beyond the minimum until a bundle closes, on average
CHUNKER_NAME = "fastcdc-2020-seeded"
_GOLDEN_BYTES = 8 * 1024 * 1024


class Cutter:
    """Cuts a stream handed over in windows. One per thread is not needed: it holds no state."""

    def __init__(self, seed: int) -> None:
        self._cdc = FastCDC(
            avg_size=AVERAGE_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK, seed=seed
        )

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


def closes_bundle(size: int, digest: bytes, member_bytes: int) -> bool:
    """Whether a bundle of ``size`` bytes closes after the member with this keyed ``digest``.

    Depends on the member's identity, so that a change disturbs only its own bundle; the chance
    grows with the member's length, so that bundles average about 1 MiB whatever the file sizes.
    """
    if size < BUNDLE_MIN:
        return False
    if size >= BUNDLE_MAX:
        return True
    return int.from_bytes(digest[:4], "little") % BUNDLE_EXPECTED < member_bytes


def golden_cuts(seed: int) -> list[int]:
    """Cut lengths over a fixed stream; kept in the vault's descriptor, so that a library that cuts
    otherwise is noticed before it costs deduplication."""
    stream = blake3(b"holdfast golden cut points").digest(length=_GOLDEN_BYTES)
    return Cutter(seed).cut(stream, last=True)
