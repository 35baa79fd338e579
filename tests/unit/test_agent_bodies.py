"""Bodies of the agent API, and how agents are woken."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.arm.agent_bodies import (
    CommitCall,
    NextBody,
    SessionBody,
    parse_frames,
    read_json,
    read_msgpack,
)
from holdfast.errors import UsageError
from holdfast.jobs.bell import Bell


def written(frames: list[int]) -> str:
    return ",".join(str(frame) for frame in frames)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_single_frames_come_back_in_their_order(frames: list[int]) -> None:
    assert parse_frames(written(frames)) == frames


@given(st.integers(0, 1000), st.integers(0, 500))
def test_ranges_are_inclusive(first: int, count: int) -> None:
    assert parse_frames(f"{first}-{first + count}") == list(range(first, first + count + 1))


@pytest.mark.parametrize(
    "text", ["", "a", "1,", "3-1", "-1", "1--2", "0-4294967296", "0-100000", "1,0-99999", "1 2"]
)
def test_malformed_or_endless_ranges_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_frames(text)
    assert caught.value.code == "InvalidFrames"


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_refused_or_decoded_never_worse(data: bytes) -> None:
    for read, kind in ((read_msgpack, CommitCall), (read_json, NextBody)):
        try:
            read(data, kind)
        except UsageError as error:
            assert error.code == "InvalidBody"


def test_types_are_not_guessed() -> None:
    with pytest.raises(UsageError):
        read_json(b'{"taskId": "x", "fence": "1"}', SessionBody)
    body = read_msgpack(msgspec.msgpack.encode({"taskId": "x", "fence": 1}), SessionBody)
    assert (body.task_id, body.fence) == ("x", 1)


def test_a_ring_wakes_only_its_agent_and_no_ring_is_missed() -> None:
    async def story() -> None:
        bell = Bell()
        early = bell.listen("a")
        threading.Thread(target=bell.ring, args=("a",)).start()
        assert await bell.wait("a", early, 10)
        mine, other = bell.listen("a"), bell.listen("b")
        bell.ring("a", "c")
        assert await bell.wait("a", mine, 10)
        assert not await bell.wait("b", other, 0.01)
        assert bell.waiting() == []

    asyncio.run(story())


def test_a_closed_bell_lets_nobody_wait() -> None:
    async def story() -> None:
        bell = Bell()
        waiting = bell.listen("a")
        bell.close()
        assert await bell.wait("a", waiting, 10)
        assert await bell.wait("a", bell.listen("a"), 10)

    asyncio.run(story())
