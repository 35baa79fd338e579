"""Alerts by webhook: a signed HTTPS POST in the shape of Azure Monitor's common alert schema.

Redirects are followed on the same host and port only, and the answer's body is never read: nothing
the other side says can send an alert elsewhere or hold much of this server.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from holdfast.adapters.messages import not_sent
from holdfast.domain.hook_names import is_web_address

SECONDS = 15.0
MOST_BYTES = 256 * 1024
MOST_REDIRECTS = 3
KEEP_METHOD = (307, 308)


@dataclass(frozen=True, slots=True)
class Hook:
    """What all webhooks share. ``secret``: signs what is sent; b"" leaves it unsigned.
    ``ca_file``: as for mail."""

    secret: bytes
    ca_file: str = ""


class WebhookChannel:
    """``target`` is a name of ``addresses``. What a name leads to is looked up when it is sent, so
    neither the outbox nor those who read it hold addresses, which often are secrets."""

    name = "webhook"
    shared = False

    def __init__(self, hook: Hook, addresses: Mapping[str, str]) -> None:
        self._hook = hook
        self._addresses = addresses

    def send(self, target: str, key: str, at: datetime, message: Mapping[str, Any]) -> None:
        address = self._addresses.get(target, target)
        if not is_web_address(address):
            raise not_sent(f"webhook {target}", "the server's settings have none of this name")
        body = json.dumps(payload(message), separators=(",", ":")).encode()
        if len(body) > MOST_BYTES:
            body = json.dumps(payload({**message, "details": {}})).encode()
        headers = self._headers(key, at, body)
        where = urlsplit(address).netloc
        try:
            with self._client() as client:
                status = self._post(client, address, body, headers)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise not_sent(where, str(error) or type(error).__name__) from error
        if not 200 <= status < 300:
            raise not_sent(where, f"it answered {status}")

    def _headers(self, key: str, at: datetime, body: bytes) -> dict[str, str]:
        stamp = str(int(at.timestamp()))
        found = {
            "Content-Type": "application/json",
            "User-Agent": "holdfast",
            "X-Holdfast-Delivery": key,
            "X-Holdfast-Timestamp": stamp,
        }
        if self._hook.secret:
            found["X-Holdfast-Signature"] = sign(self._hook.secret, stamp, body)
        return found

    def _client(self) -> httpx2.Client:
        context = ssl.create_default_context(cafile=self._hook.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return httpx2.Client(
            verify=context, timeout=SECONDS, trust_env=False, follow_redirects=False
        )

    def _post(
        self, client: httpx2.Client, target: str, body: bytes, headers: dict[str, str]
    ) -> int:
        """The last answer's status."""
        for _ in range(MOST_REDIRECTS + 1):
            with client.stream("POST", target, content=body, headers=headers) as answer:
                status, location = answer.status_code, answer.headers.get("location", "")
            if status not in KEEP_METHOD or not location:
                return status
            following = urljoin(target, location)
            if _place(following) != _place(target):
                raise not_sent(_place(target)[1], "it redirects to another host")
            target = following
        raise not_sent(_place(target)[1], "it redirects without end")


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def sign(secret: bytes, stamp: str, body: bytes) -> str:
    """HMAC-SHA256 over the timestamp, a dot, and the body as it is sent."""
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def payload(message: Mapping[str, Any]) -> dict[str, Any]:
    """Azure Monitor's common alert schema; ``alertContext`` is ours."""
    over = message["event"] == "resolved"
    essentials = {
        "alertId": message["alertId"],
        "alertRule": message["rule"],
        "severity": message["severity"],
        "signalType": "Log",
        "monitorCondition": "Resolved" if over else "Fired",
        "monitoringService": "Azure Backup",
        "alertTargetIDs": [message["vault"]],
        "firedDateTime": message["firedAt"],
        "resolvedDateTime": message["at"] if over else None,
        "description": message["message"],
        "essentialsVersion": "1.0",
        "alertContextVersion": "1.0",
    }
    context = {
        name: message[name]
        for name in ("title", "category", "vault", "resourceGroup", "subject", "hint", "details")
    }
    schema = "azureMonitorCommonAlertSchema"
    return {"schemaId": schema, "data": {"essentials": essentials, "alertContext": context}}
