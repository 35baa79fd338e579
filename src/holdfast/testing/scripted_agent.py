"""A machine's place at the agent API, taken by a test: enrols, logs in, takes tasks, ends them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast.identity.tokens import sign_assertion
from holdfast.testing.live_server import LiveServer

AGENTS = "/providers/Holdfast.Backup/agents"


class ScriptedAgent:
    """Enrolled as ``host`` in ``vault`` (its ARM id) at once; ``now`` is the server's time."""

    def __init__(self, server: LiveServer, vault: str, host: str, now: datetime) -> None:
        self.server, self.host, self.now = server, host, now
        self.key = Ed25519PrivateKey.generate()
        ours = f"{vault}/providers/Holdfast.Backup/createVaultCredentials"
        made = server.ok("POST", ours, {"properties": {"expiresInSeconds": 3600}})
        public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        body = {
            "vaultCredentials": made["properties"]["credentials"]["token"],
            "host": host,
            "platform": "linux",
            "publicKeyPem": public.decode(),
        }
        answer = server.raw("POST", f"{AGENTS}/enroll", json=body)
        assert answer.status_code == 200, answer.text
        self.enrolled: dict[str, Any] = answer.json()

    @property
    def address(self) -> str:
        return f"{AGENTS}/{self.enrolled['agentId']}"

    def assertion(self, key: Ed25519PrivateKey | None = None, now: datetime | None = None) -> Any:
        """A login form; with another ``key`` or time it must be refused."""
        signed = sign_assertion(
            key or self.key, self.enrolled["clientId"], now or self.now, uuid.uuid4().hex
        )
        return {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": signed,
        }

    def log_in(self, form: Any = None) -> httpx2.Response:
        return self.server.raw(
            "POST", self.enrolled["tokenEndpoint"], data=form or self.assertion()
        )

    def token(self) -> str:
        answer = self.log_in()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def call(self, path: str, body: Any, token: str = "") -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        return self.server.raw("POST", f"{self.address}/{path}", json=body, headers=headers)

    def report(self, *machines: dict[str, Any]) -> httpx2.Response:
        """Say which virtual machines this host has, and no others."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        body = {"virtualMachines": list(machines)}
        address = f"{self.address}/virtualMachines"
        return self.server.raw("PUT", address, json=body, headers=headers)

    def next_task(self, seconds: float = 10) -> Any:
        """The next task, or None when none came in time."""
        answer = self.call("next", {"waitSeconds": seconds, "running": []})
        assert answer.status_code == 200, answer.text
        return answer.json()["task"]

    def fail(self, task: dict[str, Any], code: str = "SourcePathMissing") -> None:
        """End a task as a machine would whose source is gone, or that met ``code``."""
        error = {"code": code, "message": "it is gone", "hint": "bring it back"}
        body = {"fence": task["fence"], "outcome": "failed", "error": error, "result": {}}
        answer = self.call(f"tasks/{task['taskId']}/complete", body)
        assert answer.status_code == 200, answer.text
