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

from holdfast.domain.hook_names import is_web_address, read_hooks
from holdfast.domain.mail_names import is_address
from holdfast.errors import UsageError
from holdfast.key_settings import KeyVaultEntry, key_problems
from holdfast.machine_settings import MachineEntry, libvirt_problems, problems

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
    refresh_days: float = 30.0
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret_file: str = ""
    oidc_name: str = ""
    oidc_user_claim: str = "preferred_username"
    oidc_ca_file: str = ""
    max_uploads: int = 8
    lookup_ids_per_second: float = 50_000.0
    collect_rewrite_percent: int = 50
    collect_bytes_per_second: int = 0
    collect_requests_per_second: float = 0.0
    copies_bytes_per_second: int = 64 * 1024 * 1024
    history_days: int = 180
    scrub_days: float = 7.0
    vault_every_run: bool = False
    tick_seconds: float = 1.0
    max_vaults: int = 500
    max_vault_policies: int = 200
    max_vault_items: int = 2000
    max_vault_vms: int = 1000
    max_vault_machines: int = 50
    max_policy_items: int = 0
    max_policy_vms: int = 100
    max_item_points: int = 9999
    max_policy_changes_a_day: int = 50
    max_protection_changes_a_day: int = 1000
    max_backups_a_day: int = 0
    max_restores_a_day: int = 0
    max_vm_backups_a_day: int = 9
    max_vm_restores_a_day: int = 20
    alert_check_seconds: float = 60.0
    agent_lost_hours: float = 24.0
    alert_severity: int = 2
    alert_emails: str = ""
    alert_webhook: str = ""
    alert_webhooks: str = ""
    alert_webhook_secret_file: str = ""
    alert_ca_file: str = ""
    smtp_host: str = ""
    smtp_port: int = 587
    smtp_security: str = "starttls"
    smtp_from: str = ""
    smtp_credentials_file: str = ""
    log_level: str = "info"


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See ``DESCRIPTIONS``."""

    checkpoint_seconds: float = 600.0
    log_level: str = "info"
    libvirt: str = ""
    libvirt_scratch: str = ""
    libvirt_scratch_percent: int = 20
    libvirt_freeze_seconds: int = 60
    appliance_dir: str = ""
    guest_write_latency_ms: float = 50.0
    machine_copies: bool = True
    machine: list[MachineEntry] = []
    key_vault: KeyVaultEntry | None = None


T = TypeVar("T", Settings, AgentSettings)
TABLES = ("machine", "key_vault")  # of the file only
LOG_LEVELS = ("debug", "info", "warning", "error")
DESCRIPTIONS: dict[str, str] = {
    "appliance_dir": "Folder of the machine that reads file systems of virtual machines; empty for "
    "`appliance` in the agent's data folder.",
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
    "refresh_days": "How long a person stays signed in without using it; 90 days at most after "
    "the sign-in, whatever is set.",
    "oidc_issuer": "Address of an OpenID provider people may sign in with, as "
    "`https://HOST/...`; empty for none.",
    "oidc_client_id": "This server's client id there.",
    "oidc_client_secret_file": "File with this server's client secret there; empty for a public "
    "client.",
    "oidc_name": "What the sign-in page calls the provider; empty for its host name.",
    "oidc_user_claim": "Claim of the provider's id token that names the user when somebody signs "
    "in for the first time (`preferred_username`, `email`, `upn`, `sub`); later the subject alone "
    "counts.",
    "oidc_ca_file": "PEM file with the CA of the provider; empty for the system's CAs.",
    "max_uploads": "Packs received at the same time; more are asked to come later.",
    "lookup_ids_per_second": "How many chunks per second one agent may ask the presence of, over "
    "ten seconds; an agent that asks more is told to pause. The default is above 12 GB/s of small "
    "chunks.",
    "collect_rewrite_percent": "Collect rewrites a pack when less than this part of it is needed; "
    "0 rewrites none. It moves more bytes and frees more the higher this is.",
    "copies_bytes_per_second": "How much may be written per second to a disk that lacks copies, of "
    "vaults on several disks; 0 is no limit.",
    "collect_bytes_per_second": "How much one collect may read and write per second while it "
    "rewrites packs; 0 is no limit.",
    "collect_requests_per_second": "How many requests one collect may make of the store per second "
    "while it deletes objects and rewrites packs; 0 is no limit. Planning is not held back.",
    "history_days": "How long ended jobs are kept.",
    "scrub_days": "How often the server reads each vault whole and checks what needs no key, one "
    "vault after the other; 0 for never by itself.",
    "vault_every_run": "Whether every run of an hourly policy sends a machine's point to the "
    "vault. Otherwise a day's last does, as with Azure, and the others stay beside the machine's "
    "disks where its host can copy them.",
    "tick_seconds": "How often due schedules and jobs are looked for.",
    "max_vaults": "Vaults there may be; 0 is no limit, here and for the next seven. Importing a "
    "vault is always allowed.",
    "max_vault_policies": "Policies of one vault.",
    "max_vault_items": "Protected items of one vault.",
    "max_vault_vms": "Protected virtual machines of one vault.",
    "max_vault_machines": "Machines enrolled in one vault; 50 is Azure's limit, 0 none.",
    "max_policy_items": "Items of any kind under one policy.",
    "max_policy_vms": "Virtual machines under one policy.",
    "max_item_points": "Recovery points of one item. At so many, backups on demand are refused; "
    "backups by schedule go on, and an alert (`RecoveryPointLimit`) tells of it.",
    "max_policy_changes_a_day": "Policies made or changed in one vault on a day (UTC); 0 is no "
    "limit, here and for the next five. Backups by schedule are never counted.",
    "max_protection_changes_a_day": "Items protected, changed or stopped in one vault on a day. "
    "Raise it for the day of a larger roll-out.",
    "max_backups_a_day": "Backups of one folder item on demand on a day.",
    "max_restores_a_day": "Restores of one folder item on a day; of one virtual machine, restores "
    "of files, runs from the vault and tests together.",
    "max_vm_backups_a_day": "Backups of one virtual machine on demand on a day.",
    "max_vm_restores_a_day": "Restores of one virtual machine's disks, or of the whole machine, on "
    "a day.",
    "alert_check_seconds": "How often silent agents, missed schedules and failed stores are looked "
    "for.",
    "agent_lost_hours": "After how many hours of silence an agent whose machine is protected has "
    "an alert.",
    "alert_severity": "Alerts up to this severity are sent: 0 for the critical ones only, 4 for "
    "all.",
    "alert_emails": "Addresses alerts are mailed to, separated by commas; needs `smtp_host`.",
    "alert_webhook": "Address alerts are posted to, `https://...`.",
    "alert_webhooks": "Webhooks that vaults may be given by name, as "
    "`team-a=https://..., team-b=https://...`.",
    "alert_webhook_secret_file": "File with the secret that signs what is posted.",
    "alert_ca_file": "CA certificates (PEM) that mail server and webhook are trusted by; empty for "
    "those of the machine.",
    "smtp_host": "Mail server; empty sends no mail.",
    "smtp_port": "Its port.",
    "smtp_security": "`starttls`, `tls` (from the start) or `none` (without a login only).",
    "smtp_from": "Address alerts are sent from.",
    "smtp_credentials_file": 'File with `{"username": "...", "password": "..."}` for the mail '
    "server.",
    "checkpoint_seconds": "How often a running backup of files makes what it sent findable for "
    "every later one, should its own job never go on.",
    "log_level": "debug, info, warning or error.",
    "libvirt": "Address of the libvirt whose virtual machines are found by themselves; empty for "
    "`qemu:///system` where its daemon runs, `no` for none.",
    "libvirt_scratch": "Folder for what guests overwrite during a backup; empty for the folder of "
    "each machine's first disk.",
    "libvirt_scratch_percent": "How much of each disk's size that may take, 1 to 100.",
    "libvirt_freeze_seconds": "How long a guest may take to freeze, its scripts included.",
    "guest_write_latency_ms": "When a guest's writes take longer than this during a backup, and "
    "clearly longer than before it, its disks are read more slowly; 0 for never.",
    "machine_copies": "Whether backups leave copies of machines' disks beside them, for the days "
    "their policy says, where the file system lets files share blocks; see "
    "[virtual machines](../virtual-machines.md#snapshots-beside-the-disks).",
    "key_vault": "`[key_vault]` table, in the file only: where keys of guests' encrypted volumes "
    "are kept, and whose they are; see "
    "[virtual machines](../virtual-machines.md#encrypted-guests).",
    "machine": "`[[machine]]` tables, in the file only: virtual machines of QEMU that no libvirt "
    "knows; see [virtual machines](../virtual-machines.md).",
}

OTHER_VARIABLES: dict[str, str] = {
    "HOLDFAST_CONFIG_DIR": "Folder of the command line's profile.",
    "HOLDFAST_GROUP": "Resource group the command line uses when `-g` is not given.",
    "HOLDFAST_VAULT": "Vault the command line uses when `-v` is not given.",
    "HOLDFAST_PASSPHRASE": "Passphrase of a recovery key, for commands that would ask for it.",
    "HOLDFAST_DEBUG": "Set to 1, the command line shows the traceback of a defect.",
    "HOLDFAST_COMPLETE": "Used by shell completion.",
}
LOOPBACK = ("http://127.0.0.1:", "http://localhost:")  # a provider on this very machine
TEST_PREFIX = "HOLDFAST_TEST_"

LIMITS: dict[str, tuple[float, float]] = {
    "pack_target_bytes": (64 * 1024, 96 * 1024 * 1024),
    "zstd_level": (1, 19),
    "reserve_bytes": (0, 1 << 50),
    "agent_wait_seconds": (1, 30 * 86400),
    "task_lease_seconds": (2, 3600),
    "token_seconds": (60, 86400),
    "refresh_days": (0.01, 90),
    "max_uploads": (1, 1000),
    "lookup_ids_per_second": (1, 1e9),
    "collect_rewrite_percent": (0, 95),
    "collect_bytes_per_second": (0, 1 << 50),
    "collect_requests_per_second": (0, 1e9),
    "copies_bytes_per_second": (0, 1 << 50),
    "history_days": (1, 36500),
    "scrub_days": (0, 365),
    "tick_seconds": (0.05, 60),
    "max_vaults": (0, 1_000_000),
    "max_vault_policies": (0, 1_000_000),
    "max_vault_items": (0, 1_000_000),
    "max_vault_vms": (0, 1_000_000),
    "max_vault_machines": (0, 1_000_000),
    "max_policy_items": (0, 1_000_000),
    "max_policy_vms": (0, 1_000_000),
    "max_item_points": (0, 1_000_000),
    "max_policy_changes_a_day": (0, 1_000_000),
    "max_protection_changes_a_day": (0, 1_000_000),
    "max_backups_a_day": (0, 1_000_000),
    "max_restores_a_day": (0, 1_000_000),
    "max_vm_backups_a_day": (0, 1_000_000),
    "max_vm_restores_a_day": (0, 1_000_000),
    "alert_check_seconds": (0.05, 86400),
    "agent_lost_hours": (0.01, 8760),
    "alert_severity": (0, 4),
    "smtp_port": (1, 65535),
}
AGENT_LIMITS: dict[str, tuple[float, float]] = {
    "checkpoint_seconds": (0.001, 86400),
    "guest_write_latency_ms": (0, 60_000),
}
SMTP_SECURITY = ("starttls", "tls", "none")


def load_settings(data: Path, environment: Mapping[str, str]) -> Settings:
    """Of a server. UsageError (InvalidSettings) names the field and what is allowed."""
    settings = _load(Settings, data, environment)
    _check_limits(settings, LIMITS)
    if settings.public_url and not settings.public_url.startswith("https://"):
        raise _invalid("public_url must begin with https://")
    if settings.oidc_issuer and not settings.oidc_client_id:
        raise _invalid("oidc_issuer needs oidc_client_id")
    if settings.oidc_issuer and not settings.oidc_issuer.startswith(("https://", *LOOPBACK)):
        raise _invalid("oidc_issuer must begin with https://")
    _check_alerts(settings)
    return settings


def _check_limits(settings: object, limits: Mapping[str, tuple[float, float]]) -> None:
    for name, (low, high) in limits.items():
        if not low <= getattr(settings, name) <= high:
            raise _invalid(f"{name} must be from {low:g} to {high:g}")


def _check_alerts(settings: Settings) -> None:
    if settings.smtp_security not in SMTP_SECURITY:
        raise _invalid(f"smtp_security must be one of {', '.join(SMTP_SECURITY)}")
    if settings.smtp_credentials_file and settings.smtp_security == "none":
        raise _invalid("smtp_credentials_file needs smtp_security starttls or tls")
    if settings.alert_emails and not settings.smtp_host:
        raise _invalid("alert_emails needs smtp_host")
    if settings.smtp_host and not is_address(settings.smtp_from):
        raise _invalid("smtp_host needs smtp_from, a mail address")
    for one in filter(None, map(str.strip, settings.alert_emails.split(","))):
        if not is_address(one):
            raise _invalid(f"alert_emails: {one!r} is no mail address")
    if settings.alert_webhook and not is_web_address(settings.alert_webhook):
        raise _invalid("alert_webhook must begin with https:// and name a host")
    read_hooks(settings.alert_webhooks)


def load_agent_settings(data: Path, environment: Mapping[str, str]) -> AgentSettings:
    """Of an agent. UsageError (InvalidSettings) names the field and what is allowed."""
    settings = _load(AgentSettings, data, environment)
    _check_limits(settings, AGENT_LIMITS)
    found = problems(settings.machine) + libvirt_problems(settings)
    found += key_problems(settings.key_vault, settings.machine)
    if found:
        raise _invalid("; ".join(found))
    return settings


def _load(kind: type[T], data: Path, environment: Mapping[str, str]) -> T:
    _check_names(environment)
    values: dict[str, Any] = {}
    path = data / FILE_NAME
    if path.exists():
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise _invalid(f"{path} cannot be read: {error}") from error
    for name in set(kind.__struct_fields__) - set(TABLES):
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
    known = {PREFIX + name.upper() for name in fields - {*TABLES}} | OTHER_VARIABLES.keys()
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not name.startswith(TEST_PREFIX):
            raise _invalid(f"the environment variable {name} is no setting")


def _invalid(message: str) -> UsageError:
    return UsageError(
        message,
        code="InvalidSettings",
        hint=f"correct {FILE_NAME} or the HOLDFAST_ variables; see docs/reference/settings.md",
    )
