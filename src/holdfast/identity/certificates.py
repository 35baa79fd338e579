"""The installation's own CA and the server's TLS certificate.

The CA is valid over a fixed span, so that no wrong clock makes it useless. The server's certificate
and key lie in one file, so that they always belong together; it is made anew near its end, for new
names, and when it is damaged.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holdfast.errors import IntegrityError
from holdfast.identity.private_files import PUBLIC, make_folder, write_whole
from holdfast.ports.clock import Clock

CA_FROM, CA_UNTIL = datetime(1970, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC)
CERTIFICATE_DAYS, RENEW_DAYS, BACKDATE_DAYS = 397, 30, 30
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


def server_names(host: str, more: Iterable[str] = ()) -> list[str]:
    """Under which names and addresses a server listening on ``host`` is called."""
    found = {"localhost", "127.0.0.1", "::1", socket.gethostname(), host, *more}
    return sorted(name for name in found if name and name not in ANY_ADDRESS)


def ensure_certificate(data: Path, names: list[str], clock: Clock) -> Path:
    """The PEM file with the server's key and certificate. IntegrityError (CaKeyDamaged)."""
    make_folder(data / "keys")
    ca_key, ca = _ensure_ca(data)
    path = data / "keys" / "server.pem"
    now = clock.now()
    if not (path.exists() and _still_good(path.read_bytes(), names, ca, now)):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(key.public_key(), names, ca_key, ca, now)
        write_whole(path, _private_pem(key) + certificate.public_bytes(Encoding.PEM))
    return path


def _ensure_ca(data: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The key comes first; a lost or foreign certificate is made from it again, and clients that
    hold the old one go on trusting."""
    key_path, path = data / "keys" / "ca.key", data / "ca.pem"
    if not key_path.exists():
        write_whole(key_path, _private_pem(ec.generate_private_key(ec.SECP256R1())))
    key = _load_key(key_path)
    if not path.exists() or not _is_of(path.read_bytes(), key):
        write_whole(path, _self_signed(key).public_bytes(Encoding.PEM), PUBLIC)
    return key, x509.load_pem_x509_certificate(path.read_bytes())


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IntegrityError(
            f"{path} holds no CA key",
            code="CaKeyDamaged",
            hint="put back a copy of the file; or remove it with ca.pem for a new CA, and give "
            "the new ca.pem to every client and agent",
        )
    return key


def _is_of(pem: bytes, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether ``pem`` is a certificate of ``key``."""
    try:
        found = x509.load_pem_x509_certificate(pem).public_key()
    except ValueError:
        return False
    return found == key.public_key()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"Holdfast CA {identifier.digest.hex()[:12]}")
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
        .not_valid_before(CA_FROM)
        .not_valid_after(CA_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
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
    life = timedelta(days=CERTIFICATE_DAYS)
    starts = min(max(now - timedelta(days=BACKDATE_DAYS), CA_FROM), CA_UNTIL - life)
    return (
        x509.CertificateBuilder()
        .subject_name(_name("Holdfast server"))
        .issuer_name(ca.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(min(max(now, starts) + life, CA_UNTIL))
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


def _still_good(pem: bytes, names: list[str], ca: x509.Certificate, now: datetime) -> bool:
    """Whether key and certificate in ``pem`` belong together, are this CA's, cover ``names`` and
    have more than a month left."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = load_pem_private_key(pem, password=None)
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    covered = {str(one.value) for one in alternatives.value}
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    timely = starts <= now <= ends - timedelta(days=RENEW_DAYS)
    return timely and set(names) <= covered and key.public_key() == certificate.public_key()
