"""The channels that the settings name."""

from __future__ import annotations

import json
from pathlib import Path

from holdfast.adapters.messages.mail import MailChannel, MailServer, Security
from holdfast.adapters.messages.webhook import Hook, WebhookChannel
from holdfast.domain.hook_names import SERVER, read_hooks
from holdfast.errors import UsageError
from holdfast.ports.messages import Channel
from holdfast.settings import Settings


def open_channels(settings: Settings) -> list[Channel]:
    """UsageError (InvalidSettings) when a file of secrets cannot be used."""
    found: list[Channel] = []
    if settings.alert_ca_file:
        _read("alert_ca_file", settings.alert_ca_file)
    if settings.smtp_host:
        found.append(MailChannel(_mail_server(settings)))
    addresses = read_hooks(settings.alert_webhooks)
    if settings.alert_webhook:
        addresses[SERVER] = settings.alert_webhook
    if addresses:
        secret = b""
        if settings.alert_webhook_secret_file:
            secret = _read("alert_webhook_secret_file", settings.alert_webhook_secret_file).strip()
        found.append(WebhookChannel(Hook(secret, settings.alert_ca_file), addresses))
    return found


def _mail_server(settings: Settings) -> MailServer:
    security: Security = "none"
    if settings.smtp_security in ("starttls", "tls"):
        security = "tls" if settings.smtp_security == "tls" else "starttls"
    username = password = ""
    if settings.smtp_credentials_file:
        name = "smtp_credentials_file"
        try:
            given = json.loads(_read(name, settings.smtp_credentials_file))
            username, password = str(given["username"]), str(given["password"])
        except (ValueError, KeyError, TypeError) as error:
            raise _unusable(name, 'it does not hold {"username": ..., "password": ...}') from error
    return MailServer(
        settings.smtp_host,
        settings.smtp_port,
        security,
        settings.smtp_from,
        username,
        password,
        settings.alert_ca_file,
    )


def _read(name: str, path: str) -> bytes:
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        raise _unusable(name, f"{path} cannot be read: {error.strerror}") from error
    if not found.strip():
        raise _unusable(name, f"{path} is empty")
    return found


def _unusable(name: str, why: str) -> UsageError:
    return UsageError(
        f"{name}: {why}",
        code="InvalidSettings",
        hint="correct the file or its name in the server's settings",
    )
