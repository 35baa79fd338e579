"""A conforming OpenID provider (oidc-provider-mock) in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from holdfast.testing.wait import eventually
from holdfast.testing.world import free_port


@contextmanager
def openid_provider(*names: str) -> Iterator[str]:
    """Its issuer. It knows the people of ``names``, each under the subject NAME-1."""
    port = free_port()
    people = [
        json.dumps({"sub": f"{name}-1", "preferred_username": name, "email": f"{name}@x.org"})
        for name in names
    ]
    words = [word for one in people for word in ("--user-claims", one)]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    issuer = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx2.get(f"{issuer}/.well-known/openid-configuration").is_success
        except httpx2.HTTPError:
            return False

    try:
        eventually(answers, "the provider answers", seconds=30)
        yield issuer
    finally:
        process.terminate()
        process.wait()


def sign_in_there(address: str, subject: str) -> str:
    """What a person does at the provider's page; where it sends the browser."""
    answer = httpx2.post(address, data={"sub": subject}, follow_redirects=False)
    assert answer.status_code in (302, 303), answer.text
    return str(answer.headers["location"])
