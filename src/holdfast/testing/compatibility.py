"""Which clients' operations the tests cover: read off the tests' own marks, for the page of
docs/reference that users look things up in.

``sdk`` marks name operations that work. ``az`` marks name commands; with a ``note`` the command
does not do its work, and ``instead`` is what does.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient

from holdfast.testing.azure_sdk import StaticCredential

CLIENTS = {"vaults": RecoveryServicesClient, "backup": RecoveryServicesBackupClient}
PACKAGES = {
    "vaults": "azure-mgmt-recoveryservices",
    "backup": "azure-mgmt-recoveryservicesbackup",
}


def _modules(folder: Path) -> Iterator[ModuleType]:
    for path in sorted(folder.glob("test_*.py")):
        spec = importlib.util.spec_from_file_location(f"marked_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def _marks(module: ModuleType, name: str) -> Iterator[Any]:
    """The marks of its tests and of their parameters."""
    for test in vars(module).values():
        for mark in getattr(test, "pytestmark", ()):
            if mark.name == name:
                yield mark
            elif mark.name == "parametrize":
                for one in mark.args[1]:
                    yield from (
                        inner.mark for inner in getattr(one, "marks", ()) if inner.name == name
                    )


def operations() -> set[str]:
    """Every operation of both SDKs, as ``client.group.method``."""
    found = set()
    for label, kind in CLIENTS.items():
        client = kind(StaticCredential(""), "subscription", base_url="https://localhost")
        for group, of in vars(client).items():
            if not group.startswith("_"):
                methods = inspect.getmembers(type(of), inspect.isroutine)
                found |= {f"{label}.{group}.{name}" for name, _ in methods if name[0] != "_"}
    return found


def sdk_coverage(tests: Path) -> dict[str, str]:
    """Operation to "" when it works, or to the reason why it is refused."""
    found: dict[str, str] = {}
    for module in _modules(tests / "compat"):
        found.update(getattr(module, "REFUSED", {}))
        for mark in _marks(module, "sdk"):
            found.update(dict.fromkeys(mark.args, ""))
    return found


def az_coverage(tests: Path) -> dict[str, str]:
    """Command to what it does here, for a reader."""
    works, notes = set(), defaultdict(set)
    for module in _modules(tests / "az"):
        for mark in _marks(module, "az"):
            note, instead = mark.kwargs.get("note", ""), mark.kwargs.get("instead", "")
            text = f"{note}; use `az rest` ({instead})" if instead else note
            for command in mark.args:
                notes[command].add(text) if note else works.add(command)
    said = {command: f"no: {'; '.join(sorted(texts))}" for command, texts in notes.items()}
    for command in works:
        partly = notes.get(command, set())
        said[command] = f"partly: {'; '.join(sorted(partly))}" if partly else "works"
    return said


def page(tests: Path) -> str:
    """The reference page."""
    sdk, az = sdk_coverage(tests), az_coverage(tests)
    lines = [
        "# Compatibility with clients of Azure Backup",
        "",
        "Made from the tests: each line is a call that a test makes with the unmodified client.",
        "How to point a client here: [use your az scripts](../how-to/use-your-az-scripts.md).",
        "",
        "## az",
        "",
        "Folders are of backup management type MAB. Commands not listed are not tested.",
        "",
        "| command | |",
        "|---|---|",
        *(f"| `az {command}` | {az[command]} |" for command in sorted(az)),
    ]
    for label, package in PACKAGES.items():
        lines += ["", f"## {package}", "", "| operation | |", "|---|---|"]
        for name in sorted(name for name in sdk if name.startswith(f"{label}.")):
            verdict = f"refused: {sdk[name]}" if sdk[name] else "works"
            lines.append(f"| `{name.partition('.')[2]}` | {verdict} |")
    return "\n".join(lines) + "\n"
