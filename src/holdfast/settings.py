"""Settings of server and agent: a TOML file, overridden by the environment, validated as a whole.

Every field is read from ``DIR/holdfast.toml`` under its name and from ``HOLDFAST_`` + its name in
upper case. docs/reference/settings.md is made from ``DESCRIPTIONS`` and ``OTHER_VARIABLES``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from holdfast.errors import UsageError

PREFIX = "HOLDFAST_"
FILE_NAME = "holdfast.toml"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See ``DESCRIPTIONS``. Durations are in seconds, sizes in bytes."""

    catalog_url: str = ""
    catalog_copied: str = ""
    names: str = ""
    public_url: str = ""
    pack_target_bytes: int = 32 * 1024 * 1024
    zstd_level: int = 1
    reserve_bytes: int = 256 * 1024 * 1024
    agent_wait_seconds: float = 900.0
    task_lease_seconds: float = 60.0
    token_seconds: int = 3600
    max_uploads: int = 8
    lookup_ids_per_second: float = 50_000.0
    history_days: int = 180
    tick_seconds: float = 1.0
    max_vaults: int = 500
    max_vault_policies: int = 200
    max_vault_items: int = 2000
    max_vault_machines: int = 1000
    max_policy_items: int = 0
    log_level: str = "info"


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See ``DESCRIPTIONS``."""

    log_level: str = "info"


T = TypeVar("T", Settings, AgentSettings)
LOG_LEVELS = ("debug", "info", "warning", "error")
DESCRIPTIONS: dict[str, str] = {
    "catalog_url": "Database of catalog and jobs: empty for SQLite in the data folder, or "
    "`postgresql://user@host/name`.",
    "catalog_copied": "Revision of a PostgreSQL catalog you copied yourself, so that a server "
    "without `pg_dump` may upgrade it; the refusal names the revision.",
    "names": "Further names or addresses clients use for this server, separated by commas; they go "
    "into its TLS certificate.",
    "public_url": "Address agents are told to use, as `https://HOST:PORT`; empty for the one the "
    "administrator used when asking for vault credentials.",
    "pack_target_bytes": "Size a pack is filled to, for vaults created from now on.",
    "zstd_level": "Compression level (1 to 19), for vaults created from now on.",
    "reserve_bytes": "Space kept back in each new vault so that collect works on a full disk, "
    "at most a tenth of the disk's room; 0 keeps none.",
    "agent_wait_seconds": "How long a job waits for an agent that does not call in.",
    "task_lease_seconds": "After which silence of an agent its task is handed out again.",
    "token_seconds": "Life of an access token.",
    "max_uploads": "Packs received at the same time; more are asked to come later.",
    "lookup_ids_per_second": "How many chunks per second one agent may ask the presence of, over "
    "ten seconds; an agent that asks more is told to pause. The default is above 12 GB/s of small "
    "chunks.",
    "history_days": "How long ended jobs are kept.",
    "tick_seconds": "How often due schedules and jobs are looked for.",
    "max_vaults": "Vaults there may be; 0 is no limit, here and for the next four. Importing a "
    "vault is always allowed.",
    "max_vault_policies": "Policies of one vault.",
    "max_vault_items": "Protected items of one vault.",
    "max_vault_machines": "Machines enrolled in one vault.",
    "max_policy_items": "Items under one policy.",
    "log_level": "debug, info, warning or error.",
}

OTHER_VARIABLES: dict[str, str] = {
    "HOLDFAST_CONFIG_DIR": "Folder of the command line's profile.",
    "HOLDFAST_GROUP": "Resource group the command line uses when `-g` is not given.",
    "HOLDFAST_VAULT": "Vault the command line uses when `-v` is not given.",
    "HOLDFAST_PASSPHRASE": "Passphrase of a recovery key, for commands that would ask for it.",
    "HOLDFAST_DEBUG": "Set to 1, the command line shows the traceback of a defect.",
    "HOLDFAST_COMPLETE": "Used by shell completion.",
}
TEST_PREFIX = "HOLDFAST_TEST_"

LIMITS: dict[str, tuple[float, float]] = {
    "pack_target_bytes": (64 * 1024, 96 * 1024 * 1024),
    "zstd_level": (1, 19),
    "reserve_bytes": (0, 1 << 50),
    "agent_wait_seconds": (1, 30 * 86400),
    "task_lease_seconds": (2, 3600),
    "token_seconds": (60, 86400),
    "max_uploads": (1, 1000),
    "lookup_ids_per_second": (1, 1e9),
    "history_days": (1, 36500),
    "tick_seconds": (0.05, 60),
    "max_vaults": (0, 1_000_000),
    "max_vault_policies": (0, 1_000_000),
    "max_vault_items": (0, 1_000_000),
    "max_vault_machines": (0, 1_000_000),
    "max_policy_items": (0, 1_000_000),
}


def load_settings(data: Path, environment: Mapping[str, str]) -> Settings:
    """Of a server. UsageError (InvalidSettings) names the field and what is allowed."""
    settings = _load(Settings, data, environment)
    for name, (low, high) in LIMITS.items():
        if not low <= getattr(settings, name) <= high:
            raise _invalid(f"{name} must be from {low:g} to {high:g}")
    if settings.public_url and not settings.public_url.startswith("https://"):
        raise _invalid("public_url must begin with https://")
    return settings


def load_agent_settings(data: Path, environment: Mapping[str, str]) -> AgentSettings:
    """Of an agent. UsageError (InvalidSettings) names the field and what is allowed."""
    return _load(AgentSettings, data, environment)


def _load(kind: type[T], data: Path, environment: Mapping[str, str]) -> T:
    _check_names(environment)
    values: dict[str, Any] = {}
    path = data / FILE_NAME
    if path.exists():
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise _invalid(f"{path} cannot be read: {error}") from error
    for name in kind.__struct_fields__:
        given = environment.get(PREFIX + name.upper())
        if given is not None:
            values[name] = given
    try:
        settings = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(f"the settings are wrong: {error}") from error
    if settings.log_level not in LOG_LEVELS:
        raise _invalid("log_level must be debug, info, warning or error")
    return settings


def _check_names(environment: Mapping[str, str]) -> None:
    """A misspelt variable is told, not ignored. Names of the other program, the command line and
    tests may stand beside one's own."""
    fields = {*Settings.__struct_fields__, *AgentSettings.__struct_fields__}
    known = {PREFIX + name.upper() for name in fields} | OTHER_VARIABLES.keys()
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not name.startswith(TEST_PREFIX):
            raise _invalid(f"the environment variable {name} is no setting")


def _invalid(message: str) -> UsageError:
    return UsageError(
        message,
        code="InvalidSettings",
        hint=f"correct {FILE_NAME} or the HOLDFAST_ variables; see docs/reference/settings.md",
    )
