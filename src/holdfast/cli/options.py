"""Options that many commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from holdfast.errors import UsageError

Command = Callable[..., Any]


def output(command: Command) -> Command:
    """-o table|json"""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="json prints exactly what the API answers.",
    )(command)


def group(command: Command) -> Command:
    return click.option("-g", "--resource-group", "group", help="Resource group.")(command)


def vault(command: Command) -> Command:
    """-g and -v"""
    name = click.option("-v", "--vault-name", "vault", help="Vault.")
    return group(name(command))


def item(command: Command) -> Command:
    """--item and --container"""
    named = click.option("--item", "item", required=True, help="The protected item.")
    machine = click.option("--container", required=True, help="The machine it is on.")
    return vault(machine(named(command)))


def container(command: Command) -> Command:
    return vault(click.option("--container", required=True, help="The machine.")(command))


def wait(command: Command) -> Command:
    return click.option("--wait", is_flag=True, help="Show progress until the job ends.")(command)


def passphrase_file(command: Command) -> Command:
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with the passphrase (or HOLDFAST_PASSPHRASE; else it is asked).",
    )(command)


def read_passphrase(file: Path | None, *, confirm: bool = False) -> str:
    """From the file, HOLDFAST_PASSPHRASE, or the terminal; never an argument."""
    if file is not None:
        try:
            return file.read_text().rstrip("\r\n")
        except OSError as error:
            raise UsageError(
                f"the passphrase file {file} cannot be read: {error.strerror}",
                code="PassphraseUnreadable",
                hint="check the path and its permissions",
            ) from error
    given = os.environ.get("HOLDFAST_PASSPHRASE")
    if given is not None:
        return given
    text: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return text
