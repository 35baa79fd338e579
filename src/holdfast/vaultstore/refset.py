"""Refsets: which chunks a recovery point needs, as sorted arrays of chunk ordinals.

An ordinal is a number the log gave to a chunk when it was added (40 bits, never reused). Encoded:
count u64 little-endian, then one zstd frame over the differences as u32 little-endian, where
0xFFFFFFFF says that the real difference follows in a list of u64 after the differences.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import zstandard

from holdfast.errors import IntegrityError

Ordinals = npt.NDArray[np.uint64]

ORDINAL_BITS = 40
_WIDE = 0xFFFFFFFF
_LEVEL = 3


def normal(ordinals: npt.ArrayLike) -> Ordinals:
    """Sorted, without repetitions."""
    return np.unique(np.asarray(ordinals, dtype=np.uint64))


def encode_refset(ordinals: Ordinals) -> bytes:
    """Bytes of a refset. ``ordinals`` sorted, strictly ascending."""
    differences = np.diff(ordinals, prepend=np.uint64(0)).astype(np.uint64)
    wide = differences >= _WIDE
    narrow = np.where(wide, _WIDE, differences).astype("<u4")
    body = narrow.tobytes() + differences[wide].astype("<u8").tobytes()
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(body)
    return len(ordinals).to_bytes(8, "little") + packed


def decode_refset(data: bytes) -> Ordinals:
    """Inverse of ``encode_refset``. Raises IntegrityError (RefsetDamaged)."""
    count = int.from_bytes(data[:8], "little")
    try:
        if zstandard.frame_content_size(data[8:]) > 12 * count:
            raise _damaged("it holds more than its count")
        body = zstandard.ZstdDecompressor().decompress(data[8:])
    except (zstandard.ZstdError, MemoryError) as error:
        raise _damaged("it does not decompress") from error
    if len(data) < 8 or len(body) < 4 * count:
        raise _damaged("it is short")
    narrow = np.frombuffer(body, "<u4", count)
    wide = narrow == _WIDE
    if len(body) != 4 * count + 8 * int(wide.sum()):
        raise _damaged("its length does not match its count")
    differences = narrow.astype(np.uint64)
    differences[wide] = np.frombuffer(body, "<u8", offset=4 * count)
    ordinals = np.cumsum(differences, dtype=np.uint64)
    if count and (not bool((differences[1:] > 0).all()) or int(ordinals[-1]) >> ORDINAL_BITS):
        raise _damaged("its ordinals do not ascend")
    return ordinals


def _damaged(reason: str) -> IntegrityError:
    return IntegrityError(f"a refset is damaged: {reason}", code="RefsetDamaged")


def union(sets: Iterable[Ordinals]) -> Ordinals:
    """All ordinals of any of the sets."""
    parts = list(sets)
    if not parts:
        return np.empty(0, np.uint64)
    return np.unique(np.concatenate(parts))


def difference(left: Ordinals, right: Ordinals) -> Ordinals:
    """Ordinals of ``left`` that are not in ``right``."""
    return left[~contains(right, left)]


def contains(ordinals: Ordinals, wanted: Ordinals) -> npt.NDArray[np.bool_]:
    """For each wanted ordinal, whether it is in the (sorted) set."""
    if not len(ordinals):
        return np.zeros(len(wanted), bool)
    places = np.searchsorted(ordinals, wanted)
    return np.asarray(ordinals[np.minimum(places, len(ordinals) - 1)] == wanted)


def mark(live: npt.NDArray[np.bool_], ordinals: Ordinals) -> None:
    """Set the flags of these ordinals in a flag array indexed by ordinal."""
    live[ordinals] = True
