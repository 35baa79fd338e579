"""How a person logs in: by password, or by a code typed into a browser."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from holdfast.cli import options
from holdfast.cli.api import ask_token
from holdfast.cli.profile import Profile
from holdfast.errors import HoldfastError

CLIENT_ID = "holdfast"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PENDING = ("authorization_pending", "slow_down")


def by_password(profile: Profile, http: Any, user: str, file: Path | None) -> Profile:
    """Asks for the password, and for a code when the account needs one."""
    form = {
        "grant_type": "password",
        "client_id": CLIENT_ID,
        "username": user,
        "password": options.read_password(file),
    }
    try:
        body = ask_token(profile.server, http, form)
    except HoldfastError as error:
        if error.code != "interaction_required" or not sys.stdin.isatty():
            raise
        code = click.prompt("Code of your authenticator app", err=True)
        body = ask_token(profile.server, http, {**form, "totp": code})
    return replace(profile, refresh_token=str(body["refresh_token"]))


def by_device_code(profile: Profile, http: Any) -> Profile:
    """Shows a code and waits until somebody has signed in with it."""
    form = {"client_id": CLIENT_ID}
    started = ask_token(profile.server, http, form, path="/adfs/oauth2/devicecode")
    click.echo(started["message"], err=True)
    asked = {**form, "grant_type": DEVICE_GRANT, "device_code": str(started["device_code"])}
    while True:
        time.sleep(float(started.get("interval") or 5))
        try:
            body = ask_token(profile.server, http, asked)
        except HoldfastError as error:
            if error.code not in PENDING:
                raise
        else:
            return replace(profile, refresh_token=str(body["refresh_token"]))
