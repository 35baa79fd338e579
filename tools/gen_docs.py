"""Write the reference pages that are made from the source: settings, error codes, addresses,
commands; and from the tests: what other clients can do.

python tools/gen_docs.py            write them
python tools/gen_docs.py --check    say which are out of date, exit 1
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from holdfast import errors
from holdfast.arm.errors import BY_CODE, STATUS
from holdfast.cli.main import root
from holdfast.domain.access import ROLES
from holdfast.settings import (
    AGENT_LIMITS,
    DESCRIPTIONS,
    FILE_NAME,
    LIMITS,
    OTHER_VARIABLES,
    PREFIX,
    AgentSettings,
    Settings,
)
from holdfast.testing import compatibility
from holdfast.testing.api_routes import Route, all_routes

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "holdfast"
PAGES = ROOT / "docs" / "reference"
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.HoldfastError)
}
NOT_SHOWN = ("testing",)


@dataclass(frozen=True)
class Raised:
    """One place that raises an error: class name ("" for a helper), code, message and hint with
    {} for what is filled in."""

    kind: str
    code: str
    message: str
    hint: str


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        f"Server and agent read theirs at start from `DIR/{FILE_NAME}`, DIR their data folder",
        "(TOML, one `name = value` a line), and from the environment (each name in upper case",
        f"after `{PREFIX}`), which goes first. An unknown name or a value out of range stops the",
        "start with `InvalidSettings`. Durations are in seconds, sizes in bytes.",
        "",
        "## Server",
        "",
        *_settings_table(Settings()),
        "",
        "## Agent",
        "",
        *_settings_table(AgentSettings()),
        "",
        "## Other variables",
        "",
        "These belong to the command line; server and agent leave them alone, as they do with the",
        "settings of each other.",
        "",
        "| variable | what it is |",
        "|---|---|",
        *(f"| `{name}` | {text} |" for name, text in OTHER_VARIABLES.items()),
    ]
    return "\n".join(lines) + "\n"


def _settings_table(default: Settings | AgentSettings) -> list[str]:
    lines = ["| name | default | range | what it is |", "|---|---|---|---|"]
    for name in default.__struct_fields__:
        low, high = {**LIMITS, **AGENT_LIMITS}.get(name, (None, None))
        span = f"{low:,} to {high:,}" if low is not None and high is not None else ""
        value = getattr(default, name)
        shown = f"`{value}`" if value != "" else "empty"
        lines.append(f"| `{name}` | {shown} | {span} | {DESCRIPTIONS[name]} |")
    return lines


Texts = Mapping[str, str]
Named = tuple[tuple[str, ...], click.Command]


def constants(tree: ast.Module) -> Texts:
    """Texts a module gives names to."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if text := template(node.value, found):
                found[node.targets[0].id] = text
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            values = node.value.elts if isinstance(node.value, ast.Tuple) else []
            for target, value in zip(node.targets[0].elts, values, strict=False):
                if isinstance(target, ast.Name):
                    found[target.id] = template(value, found)
    return found


def template(node: ast.expr | None, known: Texts) -> str:
    """The text of a string expression, with {} for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left, known) + template(node.right, known)
    if isinstance(node, ast.BoolOp):
        texts = (template(value, known) for value in node.values)
        return next((text for text in texts if text), "")
    return ""


def raised_in(path: Path) -> Iterator[Raised]:
    tree = ast.parse(path.read_text())
    known = constants(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        code = template(named.get("code"), known)
        if name not in KINDS and not code:
            continue
        message = template(node.args[0], known) if node.args else ""
        kind = KINDS.get(name)
        if kind is not None:
            code = code or kind.code
        if code and (kind is not None or message):
            yield Raised(name if kind else "", code, message, template(named.get("hint"), known))


def all_raised() -> list[Raised]:
    """Every place, by code; defaults of classes too."""
    found = {
        raised
        for path in sorted(SOURCE.rglob("*.py"))
        if path.relative_to(SOURCE).parts[0] not in NOT_SHOWN
        for raised in raised_in(path)
    }
    return sorted(found, key=lambda one: (one.code.lower(), one.message, one.kind, one.hint))


def status(raised: Raised) -> str:
    if raised.code in BY_CODE:
        return str(BY_CODE[raised.code])
    return str(STATUS[KINDS[raised.kind]]) if raised.kind else ""


def errors_page() -> str:
    lines = [
        "# Error codes",
        "",
        "Every error has a code scripts may rely on, says what happened to what, and what to do.",
        'Over REST it is the body `{"error": {code, message, hint, details, additionalInfo}}`; the',
        "command line prints the same. `{}` stands for what is filled in.",
        "",
        "| code | HTTP | what happened | what to do |",
        "|---|---|---|---|",
    ]
    seen: set[tuple[str, str, str]] = set()
    for raised in all_raised():
        row = (raised.code, raised.message, raised.hint)
        if row in seen or not raised.message:
            continue
        seen.add(row)
        cells = [f"`{raised.code}`", status(raised), raised.message, raised.hint]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return (
        "\n".join(" ".join(line.split()) if line.startswith("|") else line for line in lines) + "\n"
    )


def summary(route: Route) -> str:
    """The first paragraph, without what it raises."""
    text = " ".join(route.doc.strip().split("\n\n")[0].split()).replace("``", "`")
    return re.split(r" (?=\w+Error )", text)[0]


def rest_page() -> str:
    lines = [
        "# REST API",
        "",
        "All calls are HTTPS with `Authorization: Bearer TOKEN` and `?api-version=` (any value).",
        "Tokens come from `POST /adfs/oauth2/token`, for clients and people. Fixed words of an",
        "address match in any case; `GET /openapi.json` is the same list for programs. Lists are",
        '`{"value": [...], "nextLink": URL}`; long operations answer 202 with',
        "`Azure-AsyncOperation`, `Location` and `Retry-After`. Errors: [errors](errors.md).",
        "Bodies are described there field by field and checked so: words are spelt exactly, nulls",
        "and unknown fields are let pass. `If-Match` with the `eTag` of a vault, policy, item or",
        "security configuration changes that version only, or answers 412.",
        "",
        "## Roles",
        "",
        "A role is given to a user or client at a subscription, a resource group or a vault and",
        "counts for everything below. `*` stands for any text. Lists of vaults and groups show",
        "what the caller may read.",
        "",
        "| role | may | but not |",
        "|---|---|---|",
    ]
    for role in ROLES.values():
        may = ", ".join(f"`{one}`" for one in role.actions)
        never = ", ".join(f"`{one}`" for one in role.not_actions)
        lines.append(f"| {role.name} | {may} | {never} |")
    lines += ["", "## Addresses", "", "| call | what it does | action |", "|---|---|---|"]
    for route in all_routes():
        action = route.action
        if route.is_public:
            shown = "none: open to all"
        elif route.is_agents:
            shown = f"`{action}`, the agent itself"
        else:
            shown = f"`{action}`" if action else "any client"
        lines.append(f"| {route.method} `{route.path}` | {summary(route)} | {shown} |")
    return "\n".join(lines) + "\n"


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[Named]:
    """Every command that is no group, with its words."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is not None:
            yield from commands(inner, (*path, name))


def _parameters(command: click.Command) -> tuple[list[str], list[str]]:
    """(arguments, rows of the options)."""
    arguments, rows = [], []
    for one in command.params:
        if isinstance(one, click.Argument):
            arguments.append(
                str(one.name).upper() if one.required else f"[{str(one.name).upper()}]"
            )
        elif isinstance(one, click.Option):
            choices = one.type.choices if isinstance(one.type, click.Choice) else ()
            value = "" if one.is_flag else " " + ("|".join(map(str, choices)) or "VALUE")
            notes = [one.help or ""]
            notes += ["Required."] if one.required else []
            notes += [f"Default: {one.default}."] if one.show_default else []
            name = ", ".join(one.opts).replace("|", "\\|") + value.replace("|", "\\|")
            rows.append(f"| `{name}` | {' '.join(notes).strip()} |")
    return arguments, rows


def cli_page() -> str:
    lines = [
        "# The command line",
        "",
        "A client of the REST API. `-o json` prints exactly the API's body, lists as an array.",
        "`-g` and `-v` come from the flag, then `HOLDFAST_GROUP` and `HOLDFAST_VAULT`, then the",
        "profile under `$HOLDFAST_CONFIG_DIR` (default `~/.config/holdfast`).",
        "Exit codes: 0 done, 3 done with warnings, 1 failed, 2 wrong usage. Ctrl-C while a job is",
        "followed leaves the job running, says how to cancel it, and exits with 1. Errors go to",
        "stderr as `error:`, `code:` and",
        "`what to do:`; the codes are [these](errors.md), and of the program itself InvalidUsage,",
        "FileError (a local file cannot be written) and InternalError (a defect).",
    ]
    for words, command in commands(root):
        arguments, rows = _parameters(command)
        text, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")
        code = [line.removeprefix("  ") for line in example.rstrip().splitlines()]
        lines += ["", f"## {' '.join(['holdfast', *words, *arguments])}", "", text.strip(), ""]
        lines += ["```", *code, "```"]
        lines += ["", "| option | what it does |", "|---|---|", *rows] if rows else []
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    return {
        PAGES / "settings.md": settings_page(),
        PAGES / "errors.md": errors_page(),
        PAGES / "rest-api.md": rest_page(),
        PAGES / "cli.md": cli_page(),
        PAGES / "azure-clients.md": compatibility.page(ROOT / "tests"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="write the reference pages made from the source")
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    check = parser.parse_args().check
    stale = [
        path for path, text in pages().items() if not path.exists() or path.read_text() != text
    ]
    for path in stale:
        if check:
            print(f"out of date: {path.relative_to(ROOT)} (run tools/gen_docs.py)")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages()[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
