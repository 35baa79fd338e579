"""Typing commands in this process against a farm of machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.cli.main import run
from holdfast.testing.vm_farm import Farm

Type = Callable[..., tuple[int, str, str]]


def typist(
    farm: Farm,
    vault: str,
    setenv: Callable[[str, str], None],
    printed: Callable[[], tuple[str, str]],
) -> Type:
    """Logged in; runs a command: (exit code, what it printed, what it complained). ``printed``:
    what was written to the two streams since it was last called."""
    setenv("HOLDFAST_CONFIG_DIR", str(farm.folder / "profile"))
    setenv("HOLDFAST_GROUP", farm.spot.group)
    setenv("HOLDFAST_VAULT", vault)

    def typed(*words: str | Path) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        return code, *printed()

    data = farm.server.data
    login: list[str | Path] = ["login", "--server", farm.server.url, "--ca", data / "ca.pem"]
    assert typed(*login, "--credentials", data / "admin.json")[0] == 0
    return typed


def asked(typed: Type, *words: str | Path) -> Any:
    """What a command prints as JSON."""
    code, out, err = typed(*words, "-o", "json")
    assert code == 0, err
    return json.loads(out)
