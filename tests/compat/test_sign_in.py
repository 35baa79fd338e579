"""People and programs log in through azure-identity and MSAL, unmodified."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msal
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DeviceCodeCredential, UsernamePasswordCredential

from holdfast.testing.azure_sdk import (
    StaticCredential,
    address,
    admin,
    connect,
    secret_credential,
)
from holdfast.testing.browser import sign_in_by_code, web_browser
from holdfast.testing.world import GROUP, VAULT, World

AZ = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def person(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Somebody who may look at the vault."""
    file = tmp_path_factory.mktemp("person") / "password"
    file.write_text(PASSWORD)
    world.ok("user", "create", "eve@example.org", "--password-file", file)
    world.ok("role", "assign", "Backup Reader", "--user", "eve@example.org", "-g", GROUP)
    yield "eve@example.org"
    world.ok("user", "delete", "eve@example.org", "--yes")


def ca(world: World) -> str:
    return str(world.server_data / "ca.pem")


def options(world: World) -> dict[str, Any]:
    return {
        "authority": address(world),
        "tenant_id": "adfs",
        "disable_instance_discovery": True,
        "connection_verify": ca(world),
    }


def sees_the_vault(world: World, credential: Any) -> bool:
    return VAULT in {row.name for row in connect(world, credential).vaults.vaults.
                     list_by_resource_group(GROUP)}  # fmt: skip


def test_a_person_by_device_code(world: World, person: str) -> None:
    said = []

    def prompt(_address: str, user_code: str, _until: Any) -> None:
        said.append(sign_in_by_code(address(world), ca(world), user_code, person, PASSWORD))

    credential = DeviceCodeCredential(prompt_callback=prompt, **options(world))
    assert sees_the_vault(world, credential)
    assert len(said) == 1 and f"goes on as {person}" in said[0]
    assert credential.authenticate(scopes=[f"{address(world)}/.default"]).username == person


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_person_by_password(world: World, person: str) -> None:
    def credential(password: str) -> UsernamePasswordCredential:
        return UsernamePasswordCredential(AZ, person, password, **options(world))

    assert sees_the_vault(world, credential(PASSWORD))
    with pytest.raises(ClientAuthenticationError) as refused:
        credential("wrong").get_token(f"{address(world)}/.default")
    assert "is wrong" in str(refused.value)


def test_a_program_by_secret(world: World) -> None:
    assert sees_the_vault(world, secret_credential(world))


def test_a_program_that_names_the_tenant_by_its_guid(world: World) -> None:
    """As scripts for Azure do, and `az account show` tells it."""
    own = admin(world)["tenant_id"]
    assert sees_the_vault(world, secret_credential(world, tenant=own.upper()))
    with pytest.raises(ClientAuthenticationError, match="double check your tenant"):
        sees_the_vault(world, secret_credential(world, tenant=str(UUID(int=1))))


def test_a_person_by_a_browser_and_msal_follows_the_session(
    world: World, person: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `az login` does where there is a browser."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca(world))
    app = msal.PublicClientApplication(AZ, authority=f"{address(world)}/adfs")
    scopes = [f"{address(world)}/.default"]
    flow = app.initiate_auth_code_flow(
        scopes, redirect_uri="http://localhost:8400", response_mode="form_post"
    )
    window = web_browser(address(world), ca(world))
    window.open(flow["auth_uri"])
    window.submit(username=person, password=PASSWORD)
    assert window.action == "http://localhost:8400"
    answer = app.acquire_token_by_auth_code_flow(flow, window.fields)
    assert answer["id_token_claims"]["upn"] == person, answer
    (account,) = app.get_accounts()
    assert account["username"] == person
    again = app.acquire_token_silent(scopes, account=account, force_refresh=True)
    assert again["access_token"] != answer["access_token"]


def test_no_file_of_the_client_is_needed(world: World, tmp_path: Path) -> None:
    """The address alone tells a client everything about logging in."""
    window = web_browser(address(world), ca(world))
    window.open("/adfs/.well-known/openid-configuration")
    found = window.answer.json()
    for name in ("authorization_endpoint", "token_endpoint", "device_authorization_endpoint"):
        assert found[name].startswith(f"{address(world)}/adfs/")
    window.open(found["jwks_uri"])
    assert window.answer.json()["keys"][0]["crv"] == "Ed25519"


PROGRAM = """
import sys
from azure.identity import ManagedIdentityCredential
token = ManagedIdentityCredential().get_token(sys.argv[1] + "/.default")
print(token.token, token.expires_on)
"""
STRANGER = """
import os, urllib.error, urllib.request
address = os.environ["IDENTITY_ENDPOINT"] + "?resource=x&api-version=2019-08-01"
for headers in ({}, {"Metadata": "true"}, {"X-IDENTITY-HEADER": "guess"}):
    try:
        urllib.request.urlopen(urllib.request.Request(address, headers=headers))
    except urllib.error.HTTPError as refused:
        print(refused.code)
"""


def test_a_command_borrows_the_login_as_a_managed_identity(world: World) -> None:
    lent = world.ok("identity", "exec", sys.executable, "-c", PROGRAM, address(world))
    token, until = lent.out.split()
    assert sees_the_vault(world, StaticCredential(token))
    assert 0 < int(until) - time.time() <= 3600
    refused = world.ok("identity", "exec", sys.executable, "-c", STRANGER)
    assert refused.out.split() == ["401"] * 3, "only who has the secret is answered"
    assert world.cli("identity", "exec", sys.executable, "-c", "exit(7)").code == 7
