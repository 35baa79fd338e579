"""Agents: enrol a machine with vault credentials, replace a lost one, know who is calling."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import Connection

from holdfast.catalog import access, containers, tasks, vaults
from holdfast.catalog.access import PrincipalRow, RoleAssignmentRow, VaultCredentialsRow
from holdfast.catalog.containers import AgentRow, ContainerRow
from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.access import AGENT
from holdfast.domain.names import container_name
from holdfast.errors import AccessError, AuthenticationError, ConflictError, UsageError
from holdfast.identity.authority import Principal
from holdfast.jobs.ledger import Ledger
from holdfast.ports.clock import Clock, Random
from holdfast.ports.jobs import JobSpec
from holdfast.services.quotas import check_quota

TOKEN_PREFIX = "hfv1"  # noqa: S105 - the format's name
MAX_HOST, MAX_WORD = 255, 50


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an agent says of itself when it enrols. ``public_key``: PEM of an Ed25519 key."""

    vault_credentials: str
    host: str
    platform: str
    public_key: str
    replace: bool
    version: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The new agent, with the vault and the container it speaks for. ``replaced``: ids of agents
    that spoke for it before."""

    agent: AgentRow
    container: ContainerRow
    vault: VaultRow
    replaced: list[str]


def agent_scope(agent_id: str) -> str:
    return f"/providers/Holdfast.Backup/agents/{agent_id}"


def issue_vault_credentials(
    connection: Connection, clock: Clock, rng: Random, vault_id: str, seconds: float, by: str
) -> tuple[str, datetime]:
    """A token that enrols machines into one vault until it expires: (text, expires at). Only its
    hash is kept."""
    secret = rng.token(32).hex()
    now = clock.now()
    row = VaultCredentialsRow(
        id=new_id(rng),
        vault_id=vault_id,
        secret_hash=_hash(secret),
        created_by=by,
        created_at=now,
        expires_at=now + timedelta(seconds=seconds),
        used_at=None,
        revoked_at=None,
    )
    access.add_vault_credentials(connection, row)
    return f"{TOKEN_PREFIX}.{row.id}.{secret}", row.expires_at


def enrol(catalog: Catalog, clock: Clock, rng: Random, asked: Enrolment, most: int = 0) -> Enrolled:
    """Register a machine and its key. ``most``: machines of a vault; 0 is no limit.

    AuthenticationError (VaultCredentialsInvalid, VaultCredentialsExpired), ConflictError
    (ContainerAlreadyRegistered) when a machine of that name is enrolled and ``replace`` is not set
    or (QuotaExceeded) when there are too many, UsageError (InvalidName, InvalidPublicKey)."""
    name = container_name(asked.host[:MAX_HOST], asked.platform)
    _check_key(asked.public_key)
    with catalog.write() as connection:
        credentials = _credentials(connection, clock.now(), asked.vault_credentials)
        vault = vaults.lock_vault(connection, credentials.vault_id)
        if vault is None or vault.deleted_at is not None:
            raise _invalid()
        if containers.find_container(connection, vault.id, name) is None:
            count = containers.count_registered(connection, vault.id)
            check_quota(count, most, "the limit of machines in a vault", "max_vault_machines")
        container = _container(connection, clock, rng, vault, name, asked)
        old = revoke_container(connection, container.id, clock.now())
        agent = _add_agent(connection, clock, rng, container, asked)
        tasks.move_tasks(connection, old, agent.id, clock.now())
        access.change_vault_credentials(connection, credentials.id, used_at=clock.now())
        spec = JobSpec("register", vault.id, container.friendly_name, container_id=container.id)
        by = replace(spec, created_by="its vault credentials")
        Ledger(clock, rng).record(connection, by, {"agentVersion": agent.version})
    return Enrolled(agent, container, vault, old)


def revoke_container(connection: Connection, container_id: str, now: datetime) -> list[str]:
    """Take the right to call from every agent of a container; their ids."""
    revoked = []
    for agent in containers.active_agents_of(connection, container_id):
        access.change_principal(connection, agent.client_id, disabled_at=now)
        revoked.append(agent.id)
    containers.revoke_agents_of(connection, container_id, now)
    return revoked


def calling_agent(catalog: Catalog, principal: Principal, agent_id: str) -> AgentRow:
    """The agent behind a call about itself. AccessError for another's, AuthenticationError
    (AgentRevoked) for a replaced one."""
    if principal.kind != "agent" or principal.agent_id.lower() != agent_id.lower():
        raise AccessError(
            f"{principal.name} does not speak for agent {agent_id}",
            hint="an agent may only call for itself",
        )
    principal.check("Holdfast.Backup/agents/action", agent_scope(principal.agent_id))
    called = principal.agent_id
    agent = catalog.recall(("agent", called), lambda asked: containers.get_agent(asked, called))
    if agent is None or agent.revoked_at is not None:
        raise AuthenticationError(
            "this agent was replaced or unregistered",
            code="AgentRevoked",
            hint="enrol the machine again: holdfast agent enroll --replace",
        )
    return agent


def _credentials(connection: Connection, now: datetime, given: str) -> VaultCredentialsRow:
    kind, _, rest = _token_of(given).partition(".")
    credential_id, _, secret = rest.partition(".")
    row = access.get_vault_credentials(connection, credential_id) if kind == TOKEN_PREFIX else None
    if row is None or not hmac.compare_digest(row.secret_hash, _hash(secret)):
        raise _invalid()
    if row.revoked_at is not None or row.expires_at <= now:
        raise AuthenticationError(
            f"the vault credentials expired at {row.expires_at:%F %T} UTC",
            code="VaultCredentialsExpired",
            hint="create new ones: holdfast vault credentials VAULT -g GROUP -o FILE",
        )
    return row


def _token_of(given: str) -> str:
    """The token itself, from the token or from a whole credentials file."""
    text = given.strip()
    if not text.startswith("{"):
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    return str(found.get("token") or "") if isinstance(found, dict) else ""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _invalid() -> AuthenticationError:
    return AuthenticationError(
        "the vault credentials are not valid here",
        code="VaultCredentialsInvalid",
        hint="create new ones on this server: holdfast vault credentials VAULT -g GROUP -o FILE",
    )


def _check_key(pem: str) -> None:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(
            "the agent's public key is no Ed25519 key in PEM form",
            code="InvalidPublicKey",
            hint="enrol with this version's agent",
        )


def _container(
    connection: Connection,
    clock: Clock,
    rng: Random,
    vault: VaultRow,
    name: str,
    asked: Enrolment,
) -> ContainerRow:
    found = containers.find_container(connection, vault.id, name)
    now = clock.now()
    if found is not None:
        if containers.active_agents_of(connection, found.id) and not asked.replace:
            raise ConflictError(
                f"a machine named {found.friendly_name} is enrolled in vault {vault.name} already",
                code="ContainerAlreadyRegistered",
                hint="choose another --name, or take a lost machine over with --replace",
            )
        containers.change_container(
            connection, found.id, registration_status="Registered", updated_at=now
        )
        return found
    row = ContainerRow(
        id=new_id(rng),
        vault_id=vault.id,
        name_key=name.lower(),
        name=name,
        friendly_name=name.partition(";")[2],
        management_type="MAB",
        platform=asked.platform[:MAX_WORD],
        registration_status="Registered",
        agent_id=None,
        properties={},
        registered_at=now,
        updated_at=now,
    )
    containers.add_container(connection, row)
    return row


def _add_agent(
    connection: Connection, clock: Clock, rng: Random, container: ContainerRow, asked: Enrolment
) -> AgentRow:
    now = clock.now()
    agent = AgentRow(
        id=new_id(rng),
        vault_id=container.vault_id,
        container_id=container.id,
        client_id=new_id(rng),
        host=container.friendly_name,
        platform=asked.platform[:MAX_WORD],
        version=asked.version[:MAX_WORD],
        public_key=asked.public_key,
        properties={},
        enrolled_at=now,
        last_seen_at=now,
        revoked_at=None,
    )
    containers.add_agent(connection, agent)
    containers.change_container(connection, container.id, agent_id=agent.id, updated_at=now)
    principal = PrincipalRow(
        id=agent.client_id,
        kind="agent",
        name=agent.host,
        secret_hash="",
        public_key=asked.public_key,
        agent_id=agent.id,
        created_at=now,
        disabled_at=None,
    )
    access.add_principal(connection, principal)
    role = RoleAssignmentRow(new_id(rng), agent.client_id, AGENT.id, agent_scope(agent.id), now)
    access.add_assignment(connection, role)
    return agent
