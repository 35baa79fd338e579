"""Closing an agent's connections while a call is under way harms nothing that is opened after."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.agent.client import AgentClient
from holdfast.agent.state import AgentState
from holdfast.errors import CancelledError
from holdfast.testing.arm_responder import Asked, Reply, responder

FILES = 40
CONTENT = b"S" * 4096


def test_a_socket_is_not_closed_under_the_thread_that_waits_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number closed too early is the next file's, and TLS wrote a record into it."""
    asked, answer_now = threading.Event(), threading.Event()
    got: list[object] = []
    with responder(tmp_path) as server:

        def answer(request: Asked) -> Reply:
            if request.path.endswith("/next"):
                asked.set()
                answer_now.wait(30)
            return 200, {"task": None}, {}

        monkeypatch.setattr(server, "answer", answer)
        monkeypatch.setattr(AgentClient, "_log_in", lambda _self: "token")
        client = _client(server.url, server.ca)
        calling = threading.Thread(target=lambda: got.append(client.json("/next", {})))
        calling.start()
        assert asked.wait(30)
        client.close()
        opened = [os.open(tmp_path / f"f{at}", os.O_RDWR | os.O_CREAT) for at in range(FILES)]
        for fd in opened:
            os.pwrite(fd, CONTENT, 0)
        answer_now.set()
        calling.join(30)
    assert not calling.is_alive()
    for fd in opened:
        assert os.pread(fd, len(CONTENT) + 1, 0) == CONTENT
        os.close(fd)
    assert got == [{"task": None}]
    with pytest.raises(CancelledError):
        client.json("/next", {})


def _client(url: str, ca: Path) -> AgentClient:
    state = AgentState(
        server=url,
        agent_id="11111111-1111-1111-1111-111111111111",
        client_id="22222222-2222-2222-2222-222222222222",
        host="host1",
        container="Linux;host1",
        vault_id="33333333-3333-3333-3333-333333333333",
    )
    key = Ed25519PrivateKey.generate()
    return AgentClient(state, key, ca, SystemClock(), SystemRandom(), threading.Event())
