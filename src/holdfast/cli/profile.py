"""The profile: which server, whose credentials, which vault by default. $HOLDFAST_CONFIG_DIR."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from holdfast.errors import AuthenticationError, UsageError
from holdfast.files import write_whole


@dataclass(frozen=True, slots=True)
class Profile:
    """``ca``: PEM text. The secret is kept in a file of mode 0600, like the token cache."""

    server: str
    ca: str
    client_id: str
    client_secret: str
    subscription_id: str = ""
    group: str = ""
    vault: str = ""


def config_dir() -> Path:
    given = os.environ.get("HOLDFAST_CONFIG_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "holdfast"


def save_profile(profile: Profile) -> None:
    folder = config_dir()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(folder / "profile.json", json.dumps(asdict(profile), indent=2).encode())
    write_whole(folder / "ca.pem", profile.ca.encode(), 0o644)
    forget_token()


def load_profile() -> Profile:
    """AuthenticationError (NotLoggedIn) when there is none."""
    path = config_dir() / "profile.json"
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
        changed = replace(profile, group=group, vault=vault)
        write_whole(config_dir() / "profile.json", json.dumps(asdict(changed), indent=2).encode())


def load_token() -> dict[str, float | str]:
    try:
        found: dict[str, float | str] = json.loads((config_dir() / "token.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def save_token(token: str, until: float) -> None:
    write_whole(config_dir() / "token.json", json.dumps({"token": token, "until": until}).encode())


def forget_token() -> None:
    (config_dir() / "token.json").unlink(missing_ok=True)
