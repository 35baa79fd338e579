"""The Azure SDKs, unmodified, pointed at an installation.

``Sdk`` writes down which operations a test called, so that what a test says it covers (the
compatibility table is made of that) cannot be what it does not.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.identity import ClientSecretCredential
from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient

from holdfast.testing.watching import Answered, tell
from holdfast.testing.world import World


class StaticCredential:
    """A token got elsewhere, as a program may hold one."""

    def __init__(self, token: str) -> None:
        self.token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self.token, int(time.time()) + 3600)


class Listening:
    """Stands for a client or one of its operation groups; every call is noted by name."""

    def __init__(self, of: Any, name: str, called: set[str]) -> None:
        self._of, self._name, self._called = of, name, called

    def __getattr__(self, name: str) -> Any:
        found, path = getattr(self._of, name), f"{self._name}.{name}"
        if not callable(found):
            return Listening(found, path, self._called)

        @functools.wraps(found)
        def call(*words: Any, **named: Any) -> Any:
            self._called.add(path)
            return found(*words, **named)

        return call


class Telling(SansIOHTTPPolicy[Any, Any]):
    """Whoever watches the tests' answers is told of each."""

    def on_response(self, request: Any, response: Any) -> None:
        asked, got = request.http_request, response.http_response
        path = urlsplit(asked.url).path
        tell(Answered(asked.method, path, got.status_code, got.headers, got.body))


@dataclass(frozen=True)
class Sdk:
    """``vaults`` is azure-mgmt-recoveryservices, ``backup`` azure-mgmt-recoveryservicesbackup."""

    vaults: Any
    backup: Any
    called: set[str] = field(default_factory=set)


def address(world: World) -> str:
    return f"https://127.0.0.1:{world.port}"


def admin(world: World) -> dict[str, str]:
    found: dict[str, str] = json.loads((world.server_data / "admin.json").read_text())
    return found


def secret_credential(
    world: World, secret: str = "", tenant: str = "adfs"
) -> ClientSecretCredential:
    """azure-identity with the administrator's secret, against our token endpoint."""
    login = admin(world)
    return ClientSecretCredential(
        tenant,
        login["client_id"],
        secret or login["client_secret"],
        authority=address(world),
        disable_instance_discovery=True,
        connection_verify=str(world.server_data / "ca.pem"),
    )


def connect(world: World, credential: Any) -> Sdk:
    """Clients as Azure's documentation makes them, at another address."""
    url, called = address(world), set[str]()

    def made(kind: Callable[..., Any], name: str) -> Listening:
        client = kind(
            credential,
            admin(world)["subscription_id"],
            base_url=url,
            credential_scopes=[f"{url}/.default"],
            connection_verify=str(world.server_data / "ca.pem"),
            polling_interval=1,
            retry_total=0,
            per_retry_policies=[Telling()],
        )
        return Listening(client, name, called)

    vaults = made(RecoveryServicesClient, "vaults")
    return Sdk(vaults, made(RecoveryServicesBackupClient, "backup"), called)
