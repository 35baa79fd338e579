"""holdfast agent ..."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli import options
from holdfast.cli.services import install

DATA = click.option("--data", required=True, type=options.FOLDER, help="The agent's data folder.")


@click.group()
def command() -> None:
    """Enrol this machine and run its agent.

    \b
    Example:
      holdfast agent enroll --credentials office-credentials.json --data /var/lib/holdfast-agent
    """


@command.command()
@click.option(
    "--credentials",
    required=True,
    type=options.FILE,
    help="File of `holdfast vault credentials`.",
)
@DATA
@click.option("--name", help="Name of this machine in the vault (default: its host name).")
@click.option("--replace", is_flag=True, help="Take over a lost machine's container.")
def enroll(credentials: Path, data: Path, name: str | None, replace: bool) -> None:
    """Register this machine with a vault.

    \b
    Example:
      holdfast agent enroll --credentials c.json --data /var/lib/holdfast-agent --name web1
    """
    from holdfast.agent.main import enroll as run

    state = run(credentials, data, name=name, replace=replace)
    click.echo(f"enrolled as {state.container}; start it: holdfast agent start --data {data}")


@command.command()
@DATA
@click.option("--test-mode", is_flag=True, help="For tests: the clock may be a file.")
def start(data: Path, test_mode: bool) -> None:
    """Run the agent in the foreground until SIGTERM.

    \b
    Example:
      holdfast agent start --data /var/lib/holdfast-agent
    """
    from holdfast.agent.main import run_agent

    run_agent(data, test_mode=test_mode)


@command.command("install-service")
@DATA
@click.option("--print", "only_print", is_flag=True, help="Print the unit only.")
def install_service(data: Path, only_print: bool) -> None:
    """Install a systemd unit.

    \b
    Example:
      holdfast agent install-service --data /var/lib/holdfast-agent --print
    """
    install("agent", data, [], only_print=only_print)


@command.command()
@DATA
def appliance(data: Path) -> None:
    """Build the small machine that reads file systems of virtual machines' recovery points.

    It is made of Debian's packages, which are fetched once. Without this the first browse does it.

    \b
    Example:
      holdfast agent appliance --data /var/lib/holdfast-agent
    """
    import os

    from holdfast.adapters.appliance import build_image
    from holdfast.agent.hypervisors import appliance_of
    from holdfast.agent.state import AgentFolder
    from holdfast.settings import load_agent_settings

    AgentFolder(data).load()  # nothing is fetched into a folder that is no agent's
    folder = appliance_of(load_agent_settings(data, os.environ), data)
    image = build_image(folder)
    click.echo(f"ready: {image.kernel.parent}")
