"""What an agent keeps: who it is, its key, the server's CA. In its data folder, mode 0700."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast.agent.heads import HeadKeeper
from holdfast.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from holdfast.files import read_small, write_whole
from holdfast.ports.clock import Random

STATE, KEY, CA, HEADS = "agent.json", "agent.key", "ca.pem", "heads"


class AgentState(msgspec.Struct, frozen=True, kw_only=True):
    """Written at enrolment. ``server``: https://HOST:PORT."""

    server: str
    agent_id: str
    client_id: str
    container: str
    vault_id: str
    host: str


class VaultCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """The enrolment file a vault hands out."""

    server: str
    ca: str
    token: str
    expires_at: str = msgspec.field(name="expiresAt", default="")


def read_credentials(path: Path) -> VaultCredentials:
    """UsageError (VaultCredentialsInvalid) for what is no such file."""
    try:
        return msgspec.json.decode(read_small(path), type=VaultCredentials)
    except OSError as error:
        raise UsageError(
            f"the credentials file {path} cannot be read: {error.strerror}",
            code="VaultCredentialsInvalid",
            hint="create one: holdfast vault credentials VAULT -g GROUP -o FILE",
        ) from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is no vault credentials file",
            code="VaultCredentialsInvalid",
            hint="create one: holdfast vault credentials VAULT -g GROUP -o FILE",
        ) from error


class AgentFolder:
    """The agent's data folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._heads = HeadKeeper(path / HEADS)

    def prepare(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(
                f"the data folder {self.path} cannot be used: {error.strerror}",
                code="DataFolderUnusable",
                hint="choose a folder this user may write",
            ) from error

    def make_key(self, rng: Random) -> Ed25519PrivateKey:
        """A new key, kept only by ``save``."""
        return Ed25519PrivateKey.from_private_bytes(rng.token(32))

    def save(self, state: AgentState, key: Ed25519PrivateKey, ca: str) -> None:
        """Key and CA first, state last: without the state nothing counts."""
        write_whole(self.path / KEY, key.private_bytes_raw())
        write_whole(self.path / CA, ca.encode(), 0o644)
        data = msgspec.json.format(msgspec.json.encode(state), indent=2)
        write_whole(self.path / STATE, data + b"\n")

    def load(self) -> tuple[AgentState, Ed25519PrivateKey]:
        """NotFoundError (AgentNotEnrolled), IntegrityError (AgentStateDamaged)."""
        try:
            state = msgspec.json.decode((self.path / STATE).read_bytes(), type=AgentState)
            key = Ed25519PrivateKey.from_private_bytes((self.path / KEY).read_bytes())
        except FileNotFoundError as error:
            raise NotFoundError(
                f"no agent is enrolled in {self.path}",
                code="AgentNotEnrolled",
                hint="enrol it: holdfast agent enroll --credentials FILE --data DIR",
            ) from error
        except (msgspec.MsgspecError, ValueError, OSError) as error:
            raise IntegrityError(
                f"the agent's state in {self.path} is damaged",
                code="AgentStateDamaged",
                hint="enrol it again: holdfast agent enroll --replace",
            ) from error
        return state, key

    def hold(self) -> IO[bytes]:
        """One running agent per folder. ConflictError (DataFolderInUse)."""
        lock = (self.path / "agent.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ConflictError(
                f"another agent runs in {self.path}",
                code="DataFolderInUse",
                hint="stop it first, or give this one a folder of its own",
            ) from error
        return lock

    @property
    def ca(self) -> Path:
        return self.path / CA

    @property
    def heads(self) -> HeadKeeper:
        """What was seen of vaults' logs."""
        return self._heads

    def cache_file(self, item_key: str) -> Path:
        """The file cache of an item."""
        folder = self.path / "cache"
        folder.mkdir(exist_ok=True)
        return folder / f"{os.fsencode(item_key).hex()[:200]}.cache"

    def journal_file(self, job_id: str) -> Path:
        """The journal of a restore job."""
        return self.path / "restores" / f"{job_id}.journal"


def public_pem(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
