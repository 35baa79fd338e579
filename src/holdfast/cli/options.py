"""Options that many commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from holdfast.domain.path_text import encode_path, unescape
from holdfast.errors import UsageError
from holdfast.files import read_small

Command = Callable[..., Any]
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


class PathText(click.ParamType[str]):
    """A path of the machine as the API writes it; raw bytes of the argument are kept."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return encode_path(unescape(os.fsencode(value)))


PATH_TEXT = PathText()


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
    return group(click.option("-v", "--vault-name", "vault", help="Vault.")(command))


def container(command: Command) -> Command:
    """--container, -g and -v"""
    machine = click.option("--container", required=True, help="The machine it is on.")
    return machine(vault(command))


def item(command: Command) -> Command:
    """--item, --container, -g and -v"""
    named = click.option("--item", "item", required=True, help="The protected item.")
    return named(container(command))


def wait(command: Command) -> Command:
    return click.option("--wait", is_flag=True, help="Show progress until the job ends.")(command)


def yes(command: Command) -> Command:
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


def confirm(question: str, yes: bool) -> None:
    """Ask before something is lost. click.UsageError when nobody can answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to answer: give --yes")
    click.confirm(question, abort=True, err=True)


def passphrase_file(command: Command) -> Command:
    return click.option(
        "--passphrase-file",
        type=FILE,
        help="File with the passphrase (or HOLDFAST_PASSPHRASE; else it is asked).",
    )(command)


def password_file(command: Command) -> Command:
    return click.option(
        "--password-file", "file", type=FILE, help="File with the password (else it is asked)."
    )(command)


def read_password(file: Path | None, *, confirm: bool = False, prompt: str = "Password") -> str:
    """From the file or the terminal; never an argument."""
    if file is not None:
        return read_text(file).rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the password",
            code="PasswordMissing",
            hint="give --password-file FILE",
        )
    text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return text


def read_bytes(path: Path) -> bytes:
    """A file the user named. UsageError (FileUnreadable)."""
    try:
        return read_small(path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            code="FileUnreadable",
            hint="check the path and its permissions",
        ) from error


def read_text(path: Path) -> str:
    """A text file the user named. UsageError (FileUnreadable)."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is no text file", code="FileUnreadable", hint="check that it is the right file"
        ) from error


def read_passphrase(file: Path | None, *, confirm: bool = False) -> str:
    """From the file, HOLDFAST_PASSPHRASE, or the terminal; never an argument."""
    if file is not None:
        return read_text(file).rstrip("\r\n")
    given = os.environ.get("HOLDFAST_PASSPHRASE")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the passphrase",
            code="PassphraseMissing",
            hint="give --passphrase-file FILE or set HOLDFAST_PASSPHRASE",
        )
    text: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return text
