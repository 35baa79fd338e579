"""Enrolling machines, on both databases: credentials, names, replacing a lost machine."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast.catalog import access, containers, tasks
from holdfast.catalog.database import Catalog
from holdfast.domain.access import Assignment
from holdfast.errors import AccessError, AuthenticationError, ConflictError, UsageError
from holdfast.identity.authority import Principal
from holdfast.jobs.ledger import Ledger
from holdfast.ports.jobs import JobSpec
from holdfast.services.agents import (
    Enrolled,
    Enrolment,
    calling_agent,
    enrol,
    issue_vault_credentials,
)
from holdfast.testing.catalog_rows import Estate, furnish
from holdfast.testing.ports import MovableClock, SeededRandom

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def pem(key: Ed25519PrivateKey | X25519PrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Office:
    """A catalog with one vault, its clock, and what enrolling needs."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.clock = MovableClock(NOW)
        self.rng = SeededRandom(3)
        with catalog.write() as connection:
            self.estate: Estate = furnish(connection, self.rng, NOW, host="old")

    def credentials(self, seconds: float = 3600) -> str:
        with self.catalog.write() as connection:
            token, _ = issue_vault_credentials(
                connection, self.clock, self.rng, self.estate.vault.id, seconds, "admin"
            )
        return token

    def enrol(self, token: str, host: str = "web1", *, takes_over: bool = False) -> Enrolled:
        key = pem(Ed25519PrivateKey.generate())
        asked = Enrolment(token, host, "linux", key, takes_over, "0.1")
        return enrol(self.catalog, self.clock, self.rng, asked)


@pytest.fixture
def office(catalog: Catalog) -> Office:
    return Office(catalog)


def principal_of(office: Office, enrolled: Enrolled) -> Principal:
    with office.catalog.read() as connection:
        row = access.get_principal(connection, enrolled.agent.client_id)
        roles = access.assignments_of(connection, enrolled.agent.client_id)
    assert row is not None
    assigned = tuple(Assignment(role.role, role.scope) for role in roles)
    return Principal(row.id, row.kind, row.name, row.agent_id or "", assigned)


def test_an_enrolled_agent_may_call_for_itself_only(office: Office) -> None:
    one = office.enrol(office.credentials(), "web1")
    other = office.enrol(office.credentials(), "web2")
    assert one.container.name == "Linux;web1"
    caller = principal_of(office, one)
    assert calling_agent(office.catalog, caller, one.agent.id).host == "web1"
    with pytest.raises(AccessError):
        calling_agent(office.catalog, caller, other.agent.id)
    with pytest.raises(AccessError):
        caller.check("Microsoft.RecoveryServices/vaults/read", "/subscriptions/x")
    person = replace(caller, kind="service")
    with pytest.raises(AccessError):
        calling_agent(office.catalog, person, one.agent.id)


def test_a_whole_credentials_file_is_taken_too(office: Office) -> None:
    token = office.credentials()
    assert office.enrol(json.dumps({"token": token, "server": "x"})).agent.host == "web1"


def test_expired_credentials_are_named(office: Office) -> None:
    token = office.credentials(60)
    office.clock.pass_time(timedelta(seconds=60))
    with pytest.raises(AuthenticationError) as caught:
        office.enrol(token)
    assert caught.value.code == "VaultCredentialsExpired"
    assert "holdfast vault credentials" in caught.value.hint


@pytest.mark.parametrize("forge", [lambda t: t[:-1] + "x", lambda t: "hfv1.x.y", lambda t: "", str])
def test_forged_credentials_are_refused(office: Office, forge: object) -> None:
    token = office.credentials()
    assert callable(forge)
    forged = forge(token)
    if forged == token:
        forged = token.replace("hfv1", "hfv2")
    with pytest.raises(AuthenticationError) as caught:
        office.enrol(forged)
    assert caught.value.code == "VaultCredentialsInvalid"
    with office.catalog.read() as connection:
        found = containers.find_container(connection, office.estate.vault.id, "Linux;web1")
    assert found is None


def test_a_second_machine_of_a_name_is_refused(office: Office) -> None:
    first = office.enrol(office.credentials())
    with pytest.raises(ConflictError) as caught:
        office.enrol(office.credentials(), "WEB1")
    assert caught.value.code == "ContainerAlreadyRegistered"
    assert "--replace" in caught.value.hint
    caller = principal_of(office, first)
    assert calling_agent(office.catalog, caller, first.agent.id).host == "web1"


def test_replace_takes_over_the_container_its_tasks_and_the_name(office: Office) -> None:
    lost = office.estate.agent
    spec = JobSpec("backup", office.estate.vault.id, "docs", item_id=office.estate.item.id)
    task = _leased_task(office, lost.id, spec)
    new = office.enrol(office.credentials(), "old", takes_over=True)
    assert new.container.id == office.estate.container.id
    with office.catalog.read() as connection:
        moved = tasks.get_task(connection, task.id)
        old = containers.get_agent(connection, lost.id)
        holder = containers.get_container(connection, new.container.id)
    assert moved is not None
    assert (moved.agent_id, moved.state, moved.fence) == (new.agent.id, tasks.QUEUED, 2)
    assert old is not None
    assert old.revoked_at == NOW
    assert holder is not None
    assert holder.agent_id == new.agent.id


def _leased_task(office: Office, agent_id: str, spec: JobSpec) -> tasks.TaskRow:
    with office.catalog.write() as connection:
        job = Ledger(office.clock, office.rng).create(connection, spec)
        task = tasks.TaskRow(
            id=job.id,
            job_id=job.id,
            agent_id=agent_id,
            vault_id=spec.vault_id,
            kind="files-backup",
            item_key="k",
            payload={},
            state=tasks.LEASED,
            fence=1,
            lease_until=NOW,
            cancel_requested=False,
            progress={},
            outcome="",
            error={},
            result={},
            created_at=NOW,
            updated_at=NOW,
            ended_at=None,
        )
        tasks.add_task(connection, task)
    return task


def test_a_replaced_agent_is_refused(office: Office) -> None:
    first = office.enrol(office.credentials())
    second = office.enrol(office.credentials(), takes_over=True)
    with pytest.raises(AuthenticationError) as caught:
        calling_agent(office.catalog, principal_of(office, first), first.agent.id)
    assert caught.value.code == "AgentRevoked"
    with office.catalog.read() as connection:
        row = access.get_principal(connection, first.agent.client_id)
    assert row is not None
    assert row.disabled_at is not None
    caller = principal_of(office, second)
    assert calling_agent(office.catalog, caller, second.agent.id).id == second.agent.id


@pytest.mark.parametrize("host", ["", "a b", "../x", "a;b", "x" * 300, "-a"])
def test_bad_host_names_are_refused(office: Office, host: str) -> None:
    with pytest.raises(UsageError):
        office.enrol(office.credentials(), host)


@pytest.mark.parametrize("key", ["", "no key", pem(X25519PrivateKey.generate())])
def test_other_keys_are_refused(office: Office, key: str) -> None:
    asked = Enrolment(office.credentials(), "web1", "linux", key, False, "0")
    with pytest.raises(UsageError) as caught:
        enrol(office.catalog, office.clock, office.rng, asked)
    assert caught.value.code == "InvalidPublicKey"
