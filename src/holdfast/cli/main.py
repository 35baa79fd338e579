"""The program: commands are loaded when they are used, so that it starts fast."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from holdfast import __version__
from holdfast.errors import HoldfastError

# command -> (module, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "alert": ("alerts", "What needs somebody's attention."),
    "agent": ("agents", "Enrol this machine and run its agent."),
    "backup": ("backups", "Back up now."),
    "client": ("clients", "Logins of services, by secret."),
    "completion": ("completion", "Print the shell completion script."),
    "container": ("containers", "Registered machines of a vault."),
    "identity": ("identity", "Lend this login to a command."),
    "item": ("items", "What is protected, under which policy."),
    "job": ("jobs", "What runs and what ran."),
    "login": ("login", "Log in to a server."),
    "logout": ("logout", "Forget the login."),
    "policy": ("policies", "Schedules and retention."),
    "recovery-point": ("points", "States you can restore."),
    "region": ("regions", "Where vaults put their bytes."),
    "restore": ("restores", "Restore files."),
    "role": ("roles", "What each login may do, and where."),
    "server": ("servers", "Run the server."),
    "storage-account": ("storage_accounts", "Folders of hosts to restore into."),
    "store": ("stores", "Read a vault without a server."),
    "user": ("users", "People: passwords and authenticator apps."),
    "vault": ("vaults", "Vaults and their upkeep."),
    "vm": ("vms", "Virtual machines: protect, back up, restore."),
}
DEBUG = "HOLDFAST_DEBUG"


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
      holdfast login --server https://127.0.0.1:8443 --ca /srv/holdfast/ca.pem \\
        --credentials /srv/holdfast/admin.json
      holdfast vault create office -g home
    """


def show_error(message: str, code: str, hint: str) -> None:
    """What happened, the code scripts match, and what to do. Names in it may hold anything."""
    for name, text in (("error", message), ("code", code), ("what to do", hint)):
        lines = [
            "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
            for line in text.split("\n")
        ]
        click.echo(f"{name}: " + "\n".join(lines), err=True)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """An empty value is a variable that was not set; taking it for a value left out would act on
    something else. click.UsageError."""
    if arguments[:1] == ["identity"]:  # the words of another program
        return
    for before, value in zip(["", *arguments], arguments, strict=False):
        option, equals, given = value.partition("=")
        if not value:
            where = before if before.startswith("-") and before != "--" else "an argument"
            raise click.UsageError(f"the value of {where} is empty")
        if option.startswith("--") and equals and not given:
            raise click.UsageError(f"the value of {option} is empty")


def _usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "holdfast"
    show_error(error.format_message(), "InvalidUsage", f"see: {path} --help")
    return 2


def _unexpected(error: Exception) -> int:
    if os.environ.get(DEBUG):
        raise error
    show_error(
        f"{type(error).__name__}: {error}",
        "InternalError",
        f"this is a defect: repeat the command with {DEBUG}=1 and report what it prints",
    )
    return 1


def _file_error(error: OSError) -> int:
    where = f"{error.filename}: " if error.filename else ""
    show_error(
        f"{where}{error.strerror or error}",
        "FileError",
        "check the path, its permissions and the free space, then run the command again",
    )
    return 1


_ONLY_PATHS = "write names as UTF-8; only paths of files may hold other bytes"
_RIGHT_FILE = "check that it is the right file"


def _unreadable(what: str, code: str, hint: str) -> int:
    """What was given cannot become a request."""
    show_error(what, code, hint)
    return 1


def run(arguments: Sequence[str] | None = None) -> int:
    """One command; its exit code: 0 done, 3 done with warnings, 1 failed, 2 usage."""
    options: dict[str, Any] = {"prog_name": "holdfast", "standalone_mode": False}
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _refuse_empty(given)
        code = root.main(args=given, **options)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 1
    except click.ClickException as error:
        return _usage(error)
    except HoldfastError as error:
        hint = error.hint or "see what ran and why it failed: holdfast job list"
        show_error(error.message, error.code, hint)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads: no complaint at exit either
        return 1
    except OSError as error:
        return _file_error(error)
    except UnicodeEncodeError:
        return _unreadable("an argument is not UTF-8 text", "InvalidText", _ONLY_PATHS)
    except RecursionError:
        return _unreadable("a file's JSON is nested too deeply", "InvalidFile", _RIGHT_FILE)
    except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches a user
        return _unexpected(error)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the program."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without some letters still shows all
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
