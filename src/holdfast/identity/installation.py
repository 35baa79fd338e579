"""What an installation makes once: its keys, its ids, its administrator.

Every file is written whole and made only when absent; the catalog remembers what must not be made
a second time. A start that was killed in the middle is completed by the next one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from holdfast.catalog import access, places
from holdfast.catalog.access import PrincipalRow, RoleAssignmentRow
from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.places import Subscription
from holdfast.domain.access import OWNER
from holdfast.errors import ConflictError, IntegrityError, UsageError
from holdfast.identity.private_files import make_folder, write_whole
from holdfast.identity.secrets import hash_secret, new_secret
from holdfast.ports.clock import Clock, Random

KEY_NOTE, ADMINISTRATOR_NOTE = "platform-key", "administrator"
KEY_BYTES = 32
FIELDS = ("client_id", "client_secret", "tenant_id", "subscription_id")
RESTORE_KEYS = (
    "put back a copy of DIR/keys (with several servers: the same folder on each); vaults whose key "
    "was exported can be imported on an empty server instead: holdfast vault import"
)


@dataclass(frozen=True, slots=True)
class Installation:
    """``platform_key`` opens every vault, ``token_key`` signs access tokens.
    ``administrator_is_new``: this start made the administrator."""

    tenant_id: str
    subscription_id: str
    platform_key: bytes
    token_key: Ed25519PrivateKey
    administrator_is_new: bool


def open_installation(
    data: Path, catalog: Catalog, clock: Clock, rng: Random, *, new_administrator: bool = False
) -> Installation:
    """Load what was made, make what is missing. IntegrityError (PlatformKeyMissing,
    PlatformKeyWrong) when the vaults' key is not the one this catalog was made with."""
    platform_key = _platform_key(data, catalog, rng)
    token_key = Ed25519PrivateKey.from_private_bytes(_key_file(data / "keys" / "token.key", rng))
    subscription = _subscription(data, catalog, clock, rng)
    made = _administrator(data, catalog, subscription, clock, rng, anew=new_administrator)
    return Installation(subscription.tenant_id, subscription.id, platform_key, token_key, made)


def _platform_key(data: Path, catalog: Catalog, rng: Random) -> bytes:
    path = data / "keys" / "platform.key"
    with catalog.read() as connection:
        known = places.get_note(connection, KEY_NOTE)
    if known and not path.exists():
        raise IntegrityError(
            f"{path} is missing; without it no vault opens",
            code="PlatformKeyMissing",
            hint=RESTORE_KEYS,
        )
    key = _key_file(path, rng)
    fingerprint = hashlib.sha256(b"holdfast platform key" + key).hexdigest()
    if known and known != fingerprint:
        raise IntegrityError(
            f"{path} is not the key this catalog's vaults were made with",
            code="PlatformKeyWrong",
            hint=RESTORE_KEYS,
        )
    if not known:
        with catalog.write() as connection:
            places.set_note(connection, KEY_NOTE, fingerprint)
    return key


def _key_file(path: Path, rng: Random) -> bytes:
    """32 random bytes kept in a file."""
    make_folder(path.parent)
    if not path.exists():
        write_whole(path, rng.token(KEY_BYTES))
    found = path.read_bytes()
    if len(found) != KEY_BYTES:
        raise IntegrityError(f"{path} is damaged", code="PlatformKeyWrong", hint=RESTORE_KEYS)
    return found


def _subscription(data: Path, catalog: Catalog, clock: Clock, rng: Random) -> Subscription:
    """The installation's one subscription; after the loss of a catalog the ids of admin.json."""
    with catalog.read() as connection:
        listed = places.list_subscriptions(connection)
    if listed:
        return listed[0]
    known = _read_credentials(data / "admin.json")
    made = Subscription(
        id=known.get("subscription_id") or new_id(rng),
        display_name="Holdfast",
        tenant_id=known.get("tenant_id") or new_id(rng),
        created_at=clock.now(),
    )
    try:
        with catalog.write() as connection:
            places.set_note(connection, "subscription", made.id)
            places.add_subscription(connection, made)
    except ConflictError:  # another server of this catalog was first
        with catalog.read() as connection:
            return places.list_subscriptions(connection)[0]
    return made


def _administrator(
    data: Path,
    catalog: Catalog,
    subscription: Subscription,
    clock: Clock,
    rng: Random,
    *,
    anew: bool,
) -> bool:
    """The file first, then the catalog: what is in the catalog was in the file. Whether an
    administrator was made."""
    with catalog.read() as connection:
        known = places.get_note(connection, ADMINISTRATOR_NOTE)
    if known and not anew:
        return False
    path = data / "admin.json"
    body = {} if anew else _read_credentials(path)
    if not body:
        ids = {"tenant_id": subscription.tenant_id, "subscription_id": subscription.id}
        body = {"client_id": new_id(rng), "client_secret": new_secret(rng), **ids}
        write_whole(path, json.dumps(body, indent=2).encode() + b"\n")
    with catalog.write() as connection:
        if known:
            access.change_principal(connection, known, disabled_at=clock.now())
        add_client(connection, clock, rng, body["client_id"], "administrator",
                   body["client_secret"])  # fmt: skip
        role = RoleAssignmentRow(new_id(rng), body["client_id"], OWNER.id, "/", clock.now())
        access.add_assignment(connection, role)
        places.set_note(connection, ADMINISTRATOR_NOTE, body["client_id"])
    return True


def add_client(
    connection: Connection, clock: Clock, rng: Random, client_id: str, name: str, secret: str
) -> PrincipalRow:
    """A client that logs in by secret, of which only the hash is kept."""
    hashed = hash_secret(secret, rng)
    row = PrincipalRow(client_id, "service", name, hashed, "", None, clock.now(), None)
    access.add_principal(connection, row)
    return row


def _read_credentials(path: Path) -> dict[str, str]:
    """The credentials file, or nothing when there is none. UsageError when it is no such file."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = None
    good = isinstance(found, dict) and all(isinstance(found.get(name), str) for name in FIELDS)
    if not good:
        raise UsageError(
            f"{path} is no credentials file",
            code="InvalidCredentialsFile",
            hint="move it away; the next start makes a new one",
        )
    return {name: found[name] for name in FIELDS}
