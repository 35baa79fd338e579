"""Refset arithmetic behaves like Python sets, and its bytes survive the round trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import IntegrityError
from holdfast.vaultstore import refset

ORDINALS = st.sets(st.integers(0, (1 << refset.ORDINAL_BITS) - 1) | st.integers(0, 300))


@given(ORDINALS)
def test_encoding_round_trips(values: set[int]) -> None:
    ordinals = refset.normal(sorted(values))
    assert refset.decode_refset(refset.encode_refset(ordinals)).tolist() == sorted(values)


@given(st.lists(ORDINALS), ORDINALS)
def test_arithmetic_is_that_of_sets(sets: list[set[int]], other: set[int]) -> None:
    joined = refset.union(refset.normal(sorted(values)) for values in sets)
    assert joined.tolist() == sorted(set().union(*sets))
    right = refset.normal(sorted(other))
    assert refset.difference(joined, right).tolist() == sorted(set().union(*sets) - other)
    assert refset.contains(right, joined).tolist() == [v in other for v in joined.tolist()]


@given(ORDINALS, st.data())
def test_damage_is_refused_or_harmless(values: set[int], data: st.DataObject) -> None:
    encoded = bytearray(refset.encode_refset(refset.normal(sorted(values))))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = refset.decode_refset(bytes(encoded))
    except (IntegrityError, MemoryError):
        return
    assert bool((np.diff(decoded.astype(np.int64)) > 0).all())


def test_a_short_refset_is_damage() -> None:
    with pytest.raises(IntegrityError):
        refset.decode_refset(b"")
