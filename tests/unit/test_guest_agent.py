"""The guest agent's channel, with a peer that keeps rubbish, is late, lies or hangs up."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu.guest_agent import (
    MAX_ANSWER,
    AgentRefusedError,
    AgentSilentError,
    GuestAgent,
)

Answer = Callable[[dict[str, Any]], bytes | None]
Peer = Callable[[Answer], Path]


def synced(message: dict[str, Any]) -> bytes:
    return b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode() + b"\n"


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """A guest that answers each line by a function; None hangs up. What it was asked is kept."""
    listening = socket.socket(socket.AF_UNIX)
    threads: list[threading.Thread] = []

    def serve(answer: Answer) -> None:
        channel = listening.accept()[0]
        with suppress(OSError), channel, channel.makefile("rb") as lines:  # the client hangs up
            for line in lines:
                found = answer(json.loads(line.lstrip(b"\xff")))
                if found is None:
                    return
                channel.sendall(found)

    def start(answer: Answer) -> Path:
        path = tmp_path / "agent.sock"
        listening.bind(str(path))
        listening.listen()
        threads.append(threading.Thread(target=serve, args=(answer,), daemon=True))
        threads[0].start()
        return path

    yield start
    listening.close()
    for thread in threads:
        thread.join(5)


def test_what_a_former_client_left_is_passed_over(peer: Peer) -> None:
    def answer(message: dict[str, Any]) -> bytes:
        if message["execute"] == "guest-sync-delimited":
            stale = b'{"return": 7}\n{"error": {}}\nnonsense\xff{"return": 12}\n'
            return stale + synced(message)
        return b'{"return": 3}\n'

    with GuestAgent(peer(answer)) as agent:
        assert agent.call("guest-fsfreeze-freeze") == 3


def test_a_refusal_has_the_agents_words(peer: Peer) -> None:
    def answer(message: dict[str, Any]) -> bytes:
        if message["execute"] == "guest-sync-delimited":
            return synced(message)
        return b'{"error": {"class": "CommandNotFound", "desc": "agent is in frozen state"}}\n'

    with GuestAgent(peer(answer)) as agent:
        with pytest.raises(AgentRefusedError) as refused:
            agent.call("guest-exec")
        assert (refused.value.kind, refused.value.said) == (
            "CommandNotFound",
            "agent is in frozen state",
        )
        assert agent.read_file("/x") is None
        assert agent.write_file("/x", b"") is False


def test_nothing_but_a_sync_is_sent_to_a_silent_agent(peer: Peer) -> None:
    asked = []

    def answer(message: dict[str, Any]) -> bytes:
        asked.append(message["execute"])
        return b""

    with pytest.raises(AgentSilentError) as silent:
        GuestAgent(peer(answer), timeout=0.2)
    assert "no answer" in silent.value.message or "timed out" in silent.value.message
    assert asked == ["guest-sync-delimited"]


@pytest.mark.parametrize("after", [b"", None, b"x" * (MAX_ANSWER + 100_000)])
def test_after_a_broken_answer_the_connection_is_closed(peer: Peer, after: bytes | None) -> None:
    """Late, hung up, or endless."""

    def answer(message: dict[str, Any]) -> bytes | None:
        return synced(message) if message["execute"] == "guest-sync-delimited" else after

    agent = GuestAgent(peer(answer))
    with pytest.raises(AgentSilentError):
        agent.call("guest-info", timeout=2.0 if after else 0.2)
    with pytest.raises(AgentSilentError):
        agent.call("guest-info")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(AgentSilentError) as gone:
        GuestAgent(tmp_path / "none.sock")
    assert "No such file" in gone.value.message
