"""Whatever bytes the other side sends: an error of the protocol, or exactly what was agreed on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.nbd import wire
from holdfast.nbd.replies import Coverage, Pending, ReplyReader
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import ChunkType, Command, Request, WireError

NAMES = st.text(max_size=40).filter(lambda text: len(text.encode(errors="replace")) < 100)
SENDABLE = NAMES.filter(lambda text: text.isprintable())
GUARD = 64


def parses(parse: Callable[[], object]) -> None:
    """It may fail, and in one way only."""
    with suppress(WireError):
        parse()


@given(st.binary(max_size=80), st.integers(1, 2**32))
def test_parsers_survive_any_bytes(data: bytes, length: int) -> None:
    parses(lambda: wire.parse_go(data))
    parses(lambda: wire.parse_meta_query(data))
    parses(lambda: wire.parse_meta_context(data))
    parses(lambda: wire.parse_info(data))
    parses(lambda: wire.parse_error(data))
    parses(lambda: wire.parse_runs(data, length))


@given(st.binary(min_size=28, max_size=28))
def test_parsers_of_fixed_messages_survive_any_bytes(data: bytes) -> None:
    parses(lambda: wire.parse_greeting(data[: wire.GREETING.size]))
    parses(lambda: wire.parse_option(data[: wire.OPTION.size]))
    parses(lambda: wire.parse_option_reply(data[: wire.OPTION_REPLY.size], 7))
    parses(lambda: wire.parse_request(data[: wire.REQUEST.size]))


@given(SENDABLE, st.lists(st.integers(0, 2**16 - 1), max_size=5), st.lists(SENDABLE, max_size=5))
def test_what_is_packed_is_parsed(name: str, infos: list[int], queries: list[str]) -> None:
    assert wire.parse_go(wire.pack_go(name.encode(), infos)) == (name, infos)
    packed = wire.pack_meta_query(name.encode(), [query.encode() for query in queries])
    assert wire.parse_meta_query(packed) == (name, queries)


@given(
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
)
def test_requests_are_parsed_as_packed(a: int, b: int, c: int, d: int, e: int) -> None:
    request = Request(a, b, c, d, e)
    assert wire.parse_request(request.pack()) == request


@given(st.integers(1, 2**32 - 1), st.text(max_size=80))
def test_errors_are_parsed_as_packed(number: int, text: str) -> None:
    said = text.encode(errors="ignore")
    assert wire.parse_error(wire.pack_error(number, said.decode())[1]) == (number, said)


RUNS = st.lists(st.tuples(st.integers(1, 2**31), st.integers(0, 3)), min_size=1, max_size=9)


@given(RUNS, st.integers(1, 2**32))
def test_runs_answer_for_no_more_than_was_asked(runs: list[tuple[int, int]], length: int) -> None:
    packed = wire.pack_runs(7, runs)
    if sum(size for size, _ in runs[:-1]) >= length:
        with pytest.raises(WireError):
            wire.parse_runs(packed, length)
        return
    context, found = wire.parse_runs(packed, length)
    assert context == 7
    assert [flags for _, flags in found] == [flags for _, flags in runs]
    assert sum(size for size, _ in found) == min(length, sum(size for size, _ in runs))


@given(st.lists(st.tuples(st.integers(-2, 20), st.integers(-2, 22)), max_size=12))
def test_coverage_is_a_set_of_bytes(spans: list[tuple[int, int]]) -> None:
    coverage, model = Coverage(20), set[int]()
    for start, end in spans:
        fits = 0 <= start < end <= 20 and not model & set(range(start, end))
        if fits:
            coverage.add(start, end)
            model |= set(range(start, end))
        else:
            with pytest.raises(WireError):
                coverage.add(start, end)
        assert coverage.complete == (len(model) == 20)


def chunk(kind: int, cookie: int, payload: bytes, done: bool, lie: int) -> bytes:
    return wire.CHUNK.pack(wire.CHUNK_MAGIC, done, kind, cookie, len(payload) + lie) + payload


SMALL = st.integers(0, 40)
PAYLOADS = st.one_of(
    st.binary(max_size=30),
    st.builds(lambda at, data: wire.U64.pack(at) + data, SMALL, st.binary(max_size=20)),
    st.builds(wire.HOLE.pack, SMALL, SMALL),
    st.builds(lambda number, text: wire.pack_error(number, text)[1], SMALL, st.text(max_size=5)),
    st.builds(wire.pack_runs, SMALL, st.lists(st.tuples(SMALL, SMALL), max_size=3)),
)
LONG_PAYLOADS = PAYLOADS.filter(lambda data: len(data) > 4)
KINDS = st.sampled_from([*ChunkType, 3, 0x8009])
COOKIES = st.integers(1, 4)
LIES = st.one_of(st.just(0), st.sampled_from([-4, 1, 2**20, 2**31]))
MESSAGES = st.one_of(
    st.builds(
        chunk, KINDS, COOKIES, PAYLOADS.filter(lambda data: len(data) > 4), st.booleans(), LIES
    ),
    st.builds(
        lambda number, cookie, data: (
            wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, number, cookie) + data
        ),
        st.sampled_from([0, 5]),
        COOKIES,
        st.binary(max_size=24),
    ),
    st.binary(max_size=40),
)


def in_flight(guarded: memoryview) -> dict[int, Pending]:
    """A read of 20 bytes at 10, one at 20, a block status, a write."""
    return {
        1: Pending(Command.READ, 10, 20, guarded[GUARD : GUARD + 20]),
        2: Pending(Command.READ, 20, 20, guarded[2 * GUARD : 2 * GUARD + 20]),
        3: Pending(Command.BLOCK_STATUS, 0, 40),
        4: Pending(Command.WRITE, 0, 8, memoryview(bytes(8))),
    }


@given(st.lists(MESSAGES, min_size=1, max_size=8), st.booleans())
@settings(max_examples=400, deadline=None)
def test_replies_never_write_outside_of_what_was_asked(sent: list[bytes], structured: bool) -> None:
    guarded = memoryview(bytearray(b"\xee" * (GUARD * 4)))
    flying = in_flight(guarded)
    answered = {}
    ours, theirs = socket.socketpair()
    stream = Stream(ours, 5.0)
    with theirs:
        theirs.sendall(b"".join(sent))
    reader = ReplyReader(stream, structured=structured, contexts={1: "base:allocation"})
    try:
        while flying:
            cookie = reader.next(flying)
            if cookie is not None:
                answered[cookie] = flying.pop(cookie)
    except (WireError, ConnectionError):
        pass
    finally:
        stream.close()
    assert bytes(guarded[:GUARD]) == b"\xee" * GUARD
    assert bytes(guarded[GUARD + 20 : 2 * GUARD]) == b"\xee" * (GUARD - 20)
    assert bytes(guarded[2 * GUARD + 20 :]) == b"\xee" * (2 * GUARD - 20)
    for one in answered.values():
        if one.failure is None and one.coverage is not None:
            assert one.coverage.complete
        for runs in one.runs.values():
            assert sum(size for size, _ in runs) <= one.length


@given(
    st.sets(st.integers(1, 19), max_size=15),
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 20)),
)
@settings(deadline=None)
def test_a_read_may_come_in_any_pieces(cuts: set[int], rng: Random, holes: set[int]) -> None:
    borders = [0, *sorted(cuts), 20]
    spans = list(pairwise(borders))
    rng.shuffle(spans)
    content = bytes(range(1, 21))
    expected, sent = bytearray(content), []
    for number, (start, end) in enumerate(spans, start=1):
        done = number == len(spans)
        if start in holes:
            expected[start:end] = bytes(end - start)
            sent.append(chunk(ChunkType.HOLE, 1, wire.HOLE.pack(start, end - start), done, 0))
        else:
            data = wire.U64.pack(start) + content[start:end]
            sent.append(chunk(ChunkType.DATA, 1, data, done, 0))
    found = memoryview(bytearray(b"\xee" * 20))
    ours, theirs = socket.socketpair()
    stream = Stream(ours, 5.0)
    with theirs:
        theirs.sendall(b"".join(sent))
    reader = ReplyReader(stream, structured=True, contexts={})
    flying = {1: Pending(Command.READ, 0, 20, found)}
    answers = [reader.next(flying) for _ in sent]
    stream.close()
    assert answers == [None] * (len(sent) - 1) + [1]
    assert found == expected
