"""An agent that backs raw images up for a task it was given: a program of its own, to be killed.

    python -m holdfast.testing.disks_agent CONFIG.json

prints what came of it as JSON. HOLDFAST_TEST_CRASH names a point at which it dies (crashpoint).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from holdfast import crashpoint
from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.agent.client import AgentClient
from holdfast.agent.state import AgentState
from holdfast.agent.transports import HttpSession
from holdfast.ports.block_device import Extent, ExtentKind
from holdfast.workloads.vm.disks.backup import DisksBackup
from holdfast.workloads.vm.disks.raw_file import RawFileSource
from holdfast.workloads.vm.disks.values import DiskInput, DisksPlan


class KnownChanges(RawFileSource):
    """A raw image of which somebody wrote down the changes: (offset, length) each."""

    def __init__(self, path: Path, runs: list[tuple[int, int]]) -> None:
        super().__init__(path)
        self._runs = sorted(runs)

    def dirty(self, offset: int, length: int) -> Iterator[Extent]:
        for at, size in self._runs:
            if at < offset + length and at + size > offset:
                yield Extent(at, size, ExtentKind.DATA)


def client_of(config: dict[str, Any]) -> AgentClient:
    """The connection of the machine a config names."""
    key = load_pem_private_key(Path(config["key"]).read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("an agent's key is an Ed25519 key")
    state = AgentState(
        server=config["server"],
        agent_id=config["agentId"],
        client_id=config["clientId"],
        container="",
        vault_id="",
        host="",
    )
    ca = Path(config["ca"])
    return AgentClient(state, key, ca, SystemClock(), SystemRandom(), threading.Event())


def session_of(config: dict[str, Any], client: AgentClient) -> HttpSession:
    """The session of the task a config names."""
    return HttpSession(client, config["taskId"], config["fence"])


def back_up(config: dict[str, Any]) -> dict[str, Any]:
    """Back up ``disks``: [{lun, path, dirty}]; ``since``: the point their changes count from."""
    client = client_of(config)
    session = session_of(config, client)
    disks = [
        DiskInput(
            lun=disk["lun"],
            source=KnownChanges(Path(disk["path"]), disk["dirty"]),
            identity=disk["path"],
            changes_since=config["since"],
            grid_exponent=18,
        )
        for disk in config["disks"]
    ]
    plan = DisksPlan(disks=disks, machine={"name": "web"})
    done = DisksBackup(plan, session, SystemClock(), SystemRandom()).run()
    session.close()
    client.close()
    return {
        "recoveryPointId": done.recovery_point_id,
        "logicalBytes": done.logical_bytes,
        "transferredBytes": done.transferred_bytes,
        "readBytes": done.read_bytes,
        "coverage": [disk.coverage.value for disk in done.disks],
        "audits": [disk.audit.outcome.value for disk in done.disks],
    }


if __name__ == "__main__":
    crashpoint.arm(os.environ)
    sys.stdout.write(json.dumps(back_up(json.loads(Path(sys.argv[1]).read_text()))))
