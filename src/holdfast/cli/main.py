"""The program: commands are loaded when they are used, so that it starts fast."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from holdfast import __version__
from holdfast.errors import HoldfastError

# command -> (module, attribute, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "agent": ("agents", "Enrol this machine and run its agent."),
    "backup": ("backups", "Back up now."),
    "completion": ("completion", "Print the shell completion script."),
    "container": ("containers", "Registered machines of a vault."),
    "item": ("items", "What is protected, under which policy."),
    "job": ("jobs", "What runs and what ran."),
    "login": ("login", "Log in to a server."),
    "policy": ("policies", "Schedules and retention."),
    "recovery-point": ("points", "States you can restore."),
    "region": ("regions", "Where vaults put their bytes."),
    "restore": ("restores", "Restore files."),
    "server": ("servers", "Run the server."),
    "store": ("stores", "Read a vault without a server."),
    "vault": ("vaults", "Vaults and their upkeep."),
}


class Lazy(click.Group):
    """Finds a command's module by its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"holdfast.cli.{COMMANDS[cmd_name][0]}")
        found: click.Command = module.command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list, without loading the modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="holdfast")
def root() -> None:
    """Holdfast: policy-driven backup on your own machines and storage.

    \b
    Example:
      holdfast server start --data /srv/holdfast
    """


def show_error(error: HoldfastError) -> None:
    """What happened, the code scripts match, and what to do."""
    click.echo(f"error: {error.message}", err=True)
    click.echo(f"code: {error.code}", err=True)
    hint = error.hint or "see `holdfast --help`; `holdfast job show ID` tells more of a job"
    click.echo(f"what to do: {hint}", err=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the program. Exit codes: 0 done, 3 done with warnings, 1 failed, 2 usage."""
    options: dict[str, Any] = {"prog_name": "holdfast", "standalone_mode": False}
    try:
        code = root.main(args=list(arguments) if arguments is not None else None, **options)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except HoldfastError as error:
        show_error(error)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
