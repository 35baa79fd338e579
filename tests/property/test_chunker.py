"""Cuts depend on content and seed alone, and the library still cuts as this format was made for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import IntegrityError
from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore import bundling, chunker
from holdfast.vaultstore.chunker import MAX_CHUNK, MIN_CHUNK, Cutter

SEED = 0x1234_5678_9ABC_DEF0
CONTENT = SeededRandom(11).token(20 * 1024 * 1024)
WHOLE = Cutter(SEED).cut(CONTENT, last=True)


def cut_in_windows(content: bytes, windows: list[int], seed: int = SEED) -> list[int]:
    """Cuts of a stream read in windows of these sizes, repeated."""
    cutter, lengths, start, turn = Cutter(seed), [], 0, 0
    while start < len(content):
        end = start + windows[turn % len(windows)]
        turn += 1
        found = cutter.cut(memoryview(content)[start:end], last=end >= len(content))
        lengths += found
        start += sum(found)
    return lengths


@given(st.lists(st.integers(MAX_CHUNK, 3 * MAX_CHUNK), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_cuts_do_not_depend_on_the_windows(windows: list[int]) -> None:
    assert cut_in_windows(CONTENT, windows) == WHOLE


def test_lengths_are_in_range_and_average_about_a_mebibyte() -> None:
    assert sum(WHOLE) == len(CONTENT)
    assert all(MIN_CHUNK <= length <= MAX_CHUNK for length in WHOLE[:-1])
    assert 0.5 < sum(WHOLE) / len(WHOLE) / chunker.AVERAGE_CHUNK < 2


def test_an_insertion_moves_only_the_cuts_around_it() -> None:
    changed = CONTENT[:9_000_000] + b"inserted" + CONTENT[9_000_000:]
    lengths = Cutter(SEED).cut(changed, last=True)

    def pieces(content: bytes, cuts: list[int]) -> set[bytes]:
        found, start = set(), 0
        for length in cuts:
            found.add(content[start : start + length])
            start += length
        return found

    assert len(pieces(changed, lengths) - pieces(CONTENT, WHOLE)) <= 3


def test_another_seed_cuts_elsewhere() -> None:
    assert Cutter(SEED + 2).cut(CONTENT, last=True) != WHOLE


def test_every_seed_of_64_bits_cuts() -> None:
    high = Cutter(SEED | 1 << 63).cut(CONTENT, last=True)
    assert high == WHOLE
    assert sum(Cutter(2**64 - 1).cut(CONTENT, last=True)) == len(CONTENT)


def test_one_cutter_serves_many_threads() -> None:
    cutter = Cutter(SEED)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: cutter.cut(CONTENT, last=True), range(8)))
    assert found == [WHOLE] * 8


def test_nothing_and_little_are_cut_as_they_are() -> None:
    assert Cutter(SEED).cut(b"", last=True) == []
    assert Cutter(SEED).cut(b"x", last=True) == [1]
    assert Cutter(SEED).cut(CONTENT[: MAX_CHUNK - 1], last=False) == []


def test_the_library_cuts_as_it_did_when_the_format_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert chunker.golden_cuts() == list(chunker.GOLDEN_CUTS)
    chunker.check_library.cache_clear()
    monkeypatch.setattr(chunker, "GOLDEN_CUTS", (1, 2))
    with pytest.raises(IntegrityError) as refused:
        Cutter(SEED)
    assert refused.value.code == "ChunkerChanged"


@given(st.lists(st.integers(1, 128 * 1024), min_size=200, max_size=400), st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_bundles_close_in_range_and_heal_after_an_insertion(sizes: list[int], seed: int) -> None:
    rng = SeededRandom(seed)
    members = [(rng.token(32), size) for size in sizes]

    def bundles(rows: list[tuple[bytes, int]]) -> list[tuple[bytes, ...]]:
        found, current, held = [], [], 0
        for digest, size in rows:
            current.append(digest)
            held += size
            if bundling.closes_bundle(held, digest, size):
                assert bundling.BUNDLE_MIN <= held < bundling.BUNDLE_MAX + 128 * 1024
                found.append(tuple(current))
                current, held = [], 0
        return [*found, tuple(current)] if current else found

    before = bundles(members)
    after = bundles([*members[:50], (rng.token(32), 1000), *members[50:]])
    assert sum(map(len, before)) == len(members)
    changed = set(after) - set(before)
    assert len(changed) <= 1 + len(after) // 2
