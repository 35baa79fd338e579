"""holdfast server ..."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli import options
from holdfast.cli.services import install

DATA = click.option("--data", required=True, type=options.FOLDER, help="The server's data folder.")
LISTEN = "127.0.0.1:8443"


@click.group()
def command() -> None:
    """Run the server.

    \b
    Example:
      holdfast server start --data /srv/holdfast
    """


@command.command()
@DATA
@click.option("--listen", default=LISTEN, show_default=True, help="HOST:PORT")
@click.option(
    "--new-administrator", is_flag=True, help="Replace the administrator and DIR/admin.json."
)
@click.option("--test-mode", is_flag=True, help="For tests: the clock may be a file.")
def start(data: Path, listen: str, new_administrator: bool, test_mode: bool) -> None:
    """Serve in the foreground until SIGTERM. The first start makes CA, keys and administrator.

    \b
    Example:
      holdfast server start --data /srv/holdfast --listen 0.0.0.0:8443
    """
    from holdfast.server import run_server

    run_server(data, listen, test_mode=test_mode, new_administrator=new_administrator)


@command.command("install-service")
@DATA
@click.option("--listen", default=LISTEN, show_default=True, help="HOST:PORT")
@click.option("--print", "only_print", is_flag=True, help="Print the unit only.")
def install_service(data: Path, listen: str, only_print: bool) -> None:
    """Install a systemd unit.

    \b
    Example:
      holdfast server install-service --data /srv/holdfast --print
    """
    install("server", data, ["--listen", listen], only_print=only_print)
