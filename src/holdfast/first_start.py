"""What a server makes once: its CA and certificate, its keys, its administrator.

Every file is written aside, synced and renamed, and made only when absent, so a start that was
killed in the middle is completed by the next one.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holdfast.catalog import access, places
from holdfast.catalog.access import PrincipalRow, RoleAssignmentRow
from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.places import Subscription
from holdfast.domain.access import OWNER
from holdfast.errors import IntegrityError
from holdfast.files import write_whole
from holdfast.identity.secrets import hash_secret, new_secret
from holdfast.ports.clock import Clock, Random

CA_YEARS, CERTIFICATE_DAYS, RENEW_DAYS = 20, 397, 30


@dataclass(frozen=True, slots=True)
class Keys:
    """The platform key opens every vault; the token key signs access tokens."""

    platform: bytes
    token: Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Tenant:
    """GUIDs of the installation. ``new``: this start made them."""

    tenant_id: str
    subscription_id: str
    new: bool


def load_keys(data: Path, rng: Random) -> Keys:
    """The platform's keys, made at first start under DIR/keys (mode 0700)."""
    folder = data / "keys"
    folder.mkdir(mode=0o700, exist_ok=True)
    platform, token = folder / "platform.key", folder / "token.key"
    for path in (platform, token):
        if not path.exists():
            write_whole(path, rng.token(32))
    found = platform.read_bytes(), token.read_bytes()
    if any(len(key) != 32 for key in found):
        raise IntegrityError(
            f"a key in {folder} is damaged",
            code="PlatformKeyDamaged",
            hint="put back a copy of the folder; the vaults also open with their exported keys",
        )
    return Keys(found[0], Ed25519PrivateKey.from_private_bytes(found[1]))


def ensure_certificates(data: Path, host: str, clock: Clock) -> tuple[Path, Path]:
    """(certificate chain, key) for the server; renewed by itself near its end or for a new host."""
    ca_key, ca = _ensure_ca(data, clock)
    chain, key = data / "keys" / "server.pem", data / "keys" / "server.key"
    names = _names(host)
    if not (chain.exists() and key.exists() and _still_good(chain, names, clock.now())):
        own = ec.generate_private_key(ec.SECP256R1())
        write_whole(key, _private_pem(own))
        certificate = _sign(own.public_key(), names, ca_key, ca, clock.now())
        write_whole(chain, certificate.public_bytes(Encoding.PEM), 0o644)
    return chain, key


def _names(host: str) -> list[str]:
    found = ["localhost", "127.0.0.1", "::1", socket.gethostname(), host]
    return sorted({name for name in found if name and name not in ("0.0.0.0", "::")})  # noqa: S104


def _ensure_ca(data: Path, clock: Clock) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path, path = data / "keys" / "ca.key", data / "ca.pem"
    if not (key_path.exists() and path.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        write_whole(key_path, _private_pem(key))
        write_whole(path, _self_signed(key, clock.now()).public_bytes(Encoding.PEM), 0o644)
    loaded = load_pem_private_key(key_path.read_bytes(), password=None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise IntegrityError(f"{key_path} holds no CA key", code="PlatformKeyDamaged")
    return loaded, x509.load_pem_x509_certificate(path.read_bytes())


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = _name("Holdfast CA")
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _sign(
    public: ec.EllipticCurvePublicKey,
    names: list[str],
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    now: datetime,
) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(_name("Holdfast server"))
        .issuer_name(ca.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _still_good(path: Path, names: list[str], now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    covered = {str(one.value) for one in alternatives.value}
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    timely = starts <= now <= ends - timedelta(days=RENEW_DAYS)
    return timely and set(names) <= covered


def ensure_tenant(data: Path, catalog: Catalog, clock: Clock, rng: Random) -> Tenant:
    """The tenant, its subscription and its administrator, whose credentials go to DIR/admin.json.

    Whatever an interrupted first start left is completed: without the file a new administrator is
    made; the catalog is written first, the file last."""
    with catalog.read() as connection:
        listed = places.list_subscriptions(connection)
    path = data / "admin.json"
    if listed and path.exists():
        return Tenant(listed[0].tenant_id, listed[0].id, new=False)
    now = clock.now()
    with catalog.write() as connection:
        listed = places.list_subscriptions(connection)
        if not listed:
            listed = [Subscription(new_id(rng), "Holdfast", new_id(rng), now)]
            places.add_subscription(connection, listed[0])
        client, secret = new_id(rng), new_secret(rng)
        hashed = hash_secret(secret, rng)
        admin = PrincipalRow(client, "service", "administrator", hashed, "", None, now, None)
        access.add_principal(connection, admin)
        role = RoleAssignmentRow(new_id(rng), client, OWNER.id, "/", now)
        access.add_assignment(connection, role)
    body = {
        "client_id": client,
        "client_secret": secret,
        "tenant_id": listed[0].tenant_id,
        "subscription_id": listed[0].id,
    }
    write_whole(path, json.dumps(body, indent=2).encode() + b"\n")
    return Tenant(listed[0].tenant_id, listed[0].id, new=True)
