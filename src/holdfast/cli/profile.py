"""The profile: which server, whose credentials, which vault by default. $HOLDFAST_CONFIG_DIR."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from holdfast.errors import AuthenticationError, UsageError
from holdfast.files import PRIVATE, write_whole

PROFILE, TOKEN = "profile.json", "token.json"


@dataclass(frozen=True, slots=True)
class Profile:
    """``ca``: PEM text. The secret, of a person the refresh token, is kept in a file of mode 0600,
    like the token cache."""

    server: str
    ca: str
    client_id: str
    client_secret: str
    subscription_id: str = ""
    group: str = ""
    vault: str = ""
    refresh_token: str = ""


def config_dir() -> Path:
    given = os.environ.get("HOLDFAST_CONFIG_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "holdfast"


def save_profile(profile: Profile) -> None:
    folder = config_dir()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(profile)
    write_whole(folder / "ca.pem", profile.ca.encode(), 0o644)
    forget_token()


def load_profile() -> Profile:
    """AuthenticationError (NotLoggedIn) when there is none."""
    path = config_dir() / PROFILE
    try:
        return Profile(**json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise AuthenticationError(
            "you are not logged in",
            code="NotLoggedIn",
            hint="holdfast login --server URL --ca FILE --credentials FILE",
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"the profile {path} is damaged", code="ProfileDamaged", hint="log in again"
        ) from error


def remember(group: str = "", vault: str = "") -> None:
    """Make a group and vault the default when there is none yet."""
    profile = load_profile()
    if not profile.vault and vault:
        _write(replace(profile, group=group, vault=vault))


def forget(group: str, vault: str) -> None:
    """Drop a default that is gone."""
    profile = load_profile()
    if (profile.group.lower(), profile.vault.lower()) == (group.lower(), vault.lower()):
        _write(replace(profile, group="", vault=""))


def keep_refresh_token(token: str) -> None:
    """The next one of a session: each is good for one use."""
    _write(replace(load_profile(), refresh_token=token))


def forget_login() -> None:
    """Server, group and vault stay."""
    _write(replace(load_profile(), client_id="", client_secret="", refresh_token=""))
    forget_token()


def _write(profile: Profile) -> None:
    write_whole(config_dir() / PROFILE, json.dumps(asdict(profile), indent=2).encode())


def load_token() -> dict[str, float | str]:
    """``token`` and ``until``, or nothing."""
    try:
        found = json.loads((config_dir() / TOKEN).read_text())
    except (OSError, ValueError):
        return {}
    known = isinstance(found, dict) and isinstance(found.get("until"), int | float)
    return found if known and found.get("token") else {}


def save_token(token: str, until: float) -> None:
    """A cache of mode 0600: when it cannot be written, the next command asks for a token again."""
    staged = config_dir() / f"token.{os.getpid()}.new"
    try:
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
        with os.fdopen(fd, "w") as out:
            json.dump({"token": token, "until": until}, out)
        staged.replace(config_dir() / TOKEN)
    except OSError:
        return


def forget_token() -> None:
    (config_dir() / TOKEN).unlink(missing_ok=True)
