"""holdfast logout"""

from __future__ import annotations

import click

from holdfast.cli.api import ask_token, http_client
from holdfast.cli.profile import forget_login, load_profile


@click.command()
def command() -> None:
    """End a person's session at the server and forget secrets and tokens here.

    \b
    Example:
      holdfast logout
    """
    profile = load_profile()
    forget_login()
    if profile.refresh_token:
        http = http_client(profile.server, profile.ca)
        ask_token(profile.server, http, {"token": profile.refresh_token}, "/adfs/oauth2/revoke")
    click.echo(f"logged out of {profile.server}")
