"""The Azure command line, unmodified, in a profile of its own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.testing.azure_sdk import address, admin
from holdfast.testing.world import Answer, World, free_port

SECONDS = 240


@dataclass
class Az:
    """A user's shell: a profile of its own, our CA, and no way to the Internet."""

    program: Path
    environment: dict[str, str]
    typed: list[str] = field(default_factory=list)

    def run(self, *words: str | Path, code: int = 0) -> Answer:
        """One command, which must end with ``code``."""
        self.typed.append(" ".join(map(str, words)))
        done = subprocess.run(
            [str(self.program), *map(str, words)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, f"az {self.typed[-1]}: {done.returncode}\n{done.stderr}"
        return Answer(done.returncode, done.stdout, done.stderr)

    def json(self, *words: str | Path) -> Any:
        """What a command prints with ``-o json``; None when it prints nothing."""
        out = self.run(*words, "-o", "json").out
        return json.loads(out) if out.strip() else None

    def table(self, *words: str | Path) -> list[str]:
        """The lines below the header of ``-o table``; [] when it prints no table."""
        return self.run(*words, "-o", "table").out.splitlines()[2:]


def log_in(program: Path, world: World) -> Az:
    """Register the installation as a cloud and log in, as the how-to says."""
    environment = {
        **os.environ,
        "AZURE_CONFIG_DIR": str(world.folder / "azure"),
        "REQUESTS_CA_BUNDLE": str(world.server_data / "ca.pem"),
        "AZURE_CORE_COLLECT_TELEMETRY": "no",
        "AZURE_CORE_NO_COLOR": "yes",
        "HTTPS_PROXY": f"http://127.0.0.1:{free_port()}",
        "NO_PROXY": "127.0.0.1",
    }
    az, login = Az(program, environment), admin(world)
    az.run("cloud", "register", "-n", "holdfast", "--endpoint-resource-manager", address(world))
    az.run("cloud", "set", "-n", "holdfast")
    words = ["login", "--service-principal", "-u", login["client_id"]]
    az.run(*words, "-p", login["client_secret"], "--tenant", login["tenant_id"])
    return az
