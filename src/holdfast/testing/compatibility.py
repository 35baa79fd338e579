"""Which clients' operations the tests cover: read off the tests' own marks, for the page of
docs/reference that users look things up in.

``sdk`` marks name operations that work; with ``partly``, what of them does. ``az`` marks name
commands; with a ``note`` the command does not do its work, and ``instead`` is what does. What is
refused stands in the lists of the tests that try it: ``REFUSED`` by operation of an SDK,
``REFUSED_REQUESTS`` by request.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient

from holdfast.testing.api_routes import all_routes
from holdfast.testing.azure_sdk import StaticCredential
from holdfast.testing.departures import DEPARTURES
from holdfast.testing.sdk_requests import request_of

CLIENTS = {"vaults": RecoveryServicesClient, "backup": RecoveryServicesBackupClient}
PLUMBING = ("close", "send_request")  # of every client; they are no operations

# what does the same at the command line of ours, for a reader who comes from az
OURS = {
    "backup container list": "container list",
    "backup container register": "agent enroll",
    "backup container show": "container show",
    "backup container unregister": "container unregister",
    "backup deleted-vault list": "vault list-deleted",
    "backup deleted-vault undelete": "vault undelete",
    "backup item list": "item list",
    "backup item set-policy": "item update --policy",
    "backup item show": "item show",
    "backup job list": "job list",
    "backup job show": "job show",
    "backup job stop": "job cancel",
    "backup job wait": "job wait",
    "backup policy create": "policy create",
    "backup policy delete": "policy delete",
    "backup policy get-default-for-vm": "policy show",
    "backup policy list": "policy list",
    "backup policy set": "policy set",
    "backup policy show": "policy show",
    "backup protection backup-now": "backup now",
    "backup protection disable": "item disable",
    "backup protection enable-for-azurefileshare": "item protect",
    "backup protection enable-for-vm": "item protect",
    "backup protection resume": "item resume",
    "backup protection undelete": "item undelete",
    "backup recoverypoint list": "recovery-point list",
    "backup recoverypoint show": "recovery-point show",
    "backup vault backup-properties set": "vault update",
    "backup vault backup-properties show": "vault show",
    "backup vault create": "vault create",
    "backup vault delete": "vault delete",
    "backup vault list": "vault list",
    "backup vault show": "vault show",
    "backup vault update": "vault update",
    "login": "login",
    "role assignment create": "role assign",
    "role assignment delete": "role revoke",
    "role definition list": "role list",
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
    """Every operation of both SDKs, as ``client.group.method``; those of a client itself as
    ``client.method``."""
    found = set()
    for label, kind in CLIENTS.items():
        own = (name for name, _ in inspect.getmembers(kind, inspect.isroutine) if name[0] != "_")
        found |= {f"{label}.{name}" for name in own if name not in PLUMBING}
        client = kind(StaticCredential(""), "subscription", base_url="https://localhost")
        for group, of in vars(client).items():
            if not group.startswith("_"):
                methods = inspect.getmembers(type(of), inspect.isroutine)
                found |= {f"{label}.{group}.{name}" for name, _ in methods if name[0] != "_"}
    return found


@dataclass(frozen=True, slots=True)
class Covered:
    """What the tests say of an operation: ``works``, ``partly`` or ``refused``, with the reasons
    of the last two."""

    how: str = "works"
    why: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.how}: {'; '.join(sorted(self.why))}" if self.why else self.how

    def __or__(self, other: Covered) -> Covered:
        """Of two that ask for one operation."""
        same = self.how == other.how
        return Covered(self.how if same else "partly", self.why | other.why)


def sdk_coverage(tests: Path) -> dict[str, Covered]:
    """By operation: ``client.group.method``."""
    refused: dict[str, Covered] = {}
    found: dict[str, Covered] = {}
    for module in _modules(tests / "compat"):
        reasons = getattr(module, "REFUSED", {})
        refused |= {name: Covered("refused", frozenset({why})) for name, why in reasons.items()}
        for mark in _marks(module, "sdk"):
            why = mark.kwargs.get("partly")
            said = Covered("partly", frozenset({why})) if why else Covered()
            for name in mark.args:
                found[name] = found.get(name, said) | said
    return refused | found


def refused_requests(tests: Path) -> dict[str, Covered]:
    """What no SDK asks for and is refused: ``METHOD /path/{name}``, as our routes write it."""
    found: dict[str, Covered] = {}
    for module in _modules(tests / "compat"):
        reasons = getattr(module, "REFUSED_REQUESTS", {})
        found |= {name: Covered("refused", frozenset({why})) for name, why in reasons.items()}
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


def _ours(command: str) -> str:
    return f"`holdfast {OURS[command]}`" if command in OURS else ""


def az_requests(tests: Path) -> dict[str, list[str]]:
    """Command to the operations it asks for, as a run of the tests wrote them down."""
    found: dict[str, list[str]] = json.loads((tests / "az" / "requests.json").read_text())
    return found


def note_requests(tests: Path, sent: Mapping[str, Iterable[tuple[str, str]]]) -> None:
    """Add what commands of `az backup` asked for in this run. Where that is news the file is
    renewed and it is said: the page is to be made anew."""
    known, noted = sorted(set(sdk_requests().values())), az_requests(tests)
    ours = [str(route) for route in all_routes()]
    news = set()
    for command in (name for name in sent if name.startswith("backup ")):
        for method, path in sent[command]:
            one = operation_of(method, path, known) or operation_of(method, path, ours)
            if one and one not in noted.setdefault(command, []):
                news.add((command, one))
                noted[command].append(one)
    shown = {command: sorted(noted[command]) for command in sorted(noted)}
    if news:
        text = json.dumps(shown, indent=1) + "\n"
        (tests / "az" / "requests.json").write_text(text)
    if news:
        said = f"az asked for something new: {sorted(news)}"
        sys.stderr.write(f"run tools/gen_docs.py and commit: {said}\n")


def sdk_requests() -> dict[str, str]:
    """Operation of an SDK to its REST operation: ``METHOD /path/{name}``."""
    found = {}
    for name in sorted(operations()):
        label, _, method = name.partition(".")
        found[name] = request_of(CLIENTS[label], method)
    return found


def operation_of(method: str, path: str, known: Iterable[str]) -> str:
    """The one of ``known`` (``METHOD /path/{name}``) that a request is; "" for none. Words go
    before names, so that ``backupJobs/export`` is no job."""
    parts = [part for part in path.split("/") if part]
    best, score = "", -1
    for one in known:
        verb, _, template = one.partition(" ")
        names = [part for part in template.split("/") if part]
        if verb != method or len(names) != len(parts):
            continue
        pairs = list(zip(names, parts, strict=True))
        if all(_is_name(name) or name.lower() == part.lower() for name, part in pairs):
            words = sum(not _is_name(name) for name in names)
            best, score = (one, words) if words > score else (best, score)
    return best


def _is_name(part: str) -> bool:
    return part.startswith("{")


@dataclass
class Row:
    """A REST operation with who asks for it, and what the tests say of it."""

    az: set[str] = field(default_factory=set)
    sdk: set[str] = field(default_factory=set)
    covered: Covered | None = None


def rows(tests: Path) -> dict[str, Row]:
    """Every REST operation that a client of Azure Backup has, by method and address."""
    found: dict[str, Row] = defaultdict(Row)
    coverage, refused = sdk_coverage(tests), refused_requests(tests)
    for name, request in sdk_requests().items():
        label, _, method = name.partition(".")
        row, said = found[request], coverage[name]
        row.sdk.add(f"{SHORT[label]}{method}")
        row.covered = said if row.covered is None else row.covered | said
    for command, requests in az_requests(tests).items():
        for request in requests:
            found[request].az.add(command)
            found[request].covered = found[request].covered or refused.get(request, Covered())
    return found


VAULT_ID = (
    "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}"
    "/providers/Microsoft.RecoveryServices/vaults/{vaultName}"
)
SHORTER = (
    (VAULT_ID, "V"),
    ("V/backupFabrics/{fabricName}/protectionContainers/{containerName}", "C"),
    ("C/protectedItems/{protectedItemName}", "I"),
    ("/subscriptions/{subscriptionId}", "S"),
)
SHORT = {"vaults": "vaults: ", "backup": ""}


def _shorter(operation: str) -> str:
    for long, short in SHORTER:
        operation = operation.replace(long, short)
    return operation


def _listed(names: Iterable[str], less: Mapping[str, str] = MappingProxyType({})) -> str:
    """``less``: what is said behind a name."""
    return ", ".join(f"`{name}`{less.get(name, '')}" for name in sorted(names)) or "none"


def _locked(tests: Path, lock: str, package: str) -> str:
    """A package and the version that tests run with."""
    text = (tests.parent / "requirements" / lock).read_text()
    (found,) = re.findall(rf"^{re.escape(package)}==(\S+)", text, re.MULTILINE)
    return f"{package} {found}"


def page(tests: Path) -> str:
    """The reference page."""
    az = az_coverage(tests)
    less = {name: f" ({of})" for name in az if (of := az[name].partition(":")[0]) != "works"}
    lines = [
        "# Compatibility with clients of Azure Backup",
        "",
        "Made from the tests: each command and method is called by a test, unmodified, and what it",
        "asks for is what it asked the server. How to point a client here:",
        "[use your az scripts](../how-to/use-your-az-scripts.md). Tried with",
        f"{_locked(tests, 'az.lock', 'azure-cli')},",
        f"{_locked(tests, 'dev.lock', 'azure-mgmt-recoveryservices')} and",
        f"{_locked(tests, 'dev.lock', 'azure-mgmt-recoveryservicesbackup')}.",
        "",
        "Folders and virtual machines are protected. Databases and file shares of Azure are not:",
        "lists of them are empty, and requests about them are refused.",
        "",
        "## Operations",
        "",
        "- **works**: it does for folders, virtual machines and vaults what it does in Azure;",
        "- **partly**: it does some of it, and what, is said; the rest is refused;",
        "- **refused**: with an error body of Azure's shape that says why.",
        "",
        "Whether a *command* does its work is in the [table below](#commands-of-az): it may ask",
        "for several operations. Here it has (partly) or (no) behind it where it does not.",
        "",
        "Addresses are of azure-mgmt-recoveryservicesbackup, and of azure-mgmt-recoveryservices",
        "(`vaults:`). `S` is `/subscriptions/{subscriptionId}`, `V` a vault's address,",
        "`C` is `V/backupFabrics/{fabricName}/protectionContainers/{containerName}`,",
        "`I` is `C/protectedItems/{protectedItemName}`.",
        "",
        "| operation | az | SDK | verdict |",
        "|---|---|---|---|",
    ]
    shown = {_shorter(name): row for name, row in rows(tests).items()}
    for name in sorted(shown, key=lambda one: one.partition(" ")[::-1]):
        row = shown[name]
        cells = (f"`{name}`", _listed(row.az, less), _listed(row.sdk), str(row.covered))
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Commands of az",
        "",
        "Every command of `az backup`, and others that scripts need. Folders are of backup",
        "management type MAB, virtual machines of AzureIaasVM: for these the verbs that az does",
        "not send for folders work. `ITEM` is the address of an item (`I` above).",
        "",
        "| command | verdict | the same with ours |",
        "|---|---|---|",
        *(f"| `az {command}` | {az[command]} | {_ours(command)} |" for command in sorted(az)),
    ]
    return "\n".join([*lines, *_departures()]) + "\n"


def _departures() -> list[str]:
    """Where answers are not as Azure describes them."""
    rows = [f"| `{one.of}` | `{one.field}` | {one.what} | {one.why} |" for one in DEPARTURES]
    return [
        "",
        "## Departures",
        "",
        "Every answer that a test gets is held against Azure's published description of its API",
        "(version 2024-04-01): status, fields, kinds, formats, words. It departs only here, and in",
        "the field `holdfast` that bodies may have beside Azure's fields.",
        "",
        "| what Azure describes | field | | why |",
        "|---|---|---|---|",
        *rows,
    ]
