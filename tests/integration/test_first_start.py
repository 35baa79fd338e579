"""What a first start makes, cut off at every step, and what is refused afterwards."""

from __future__ import annotations

import json
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.bootstrap import build
from holdfast.catalog import access
from holdfast.catalog.database import Catalog
from holdfast.errors import AuthenticationError, IntegrityError, UsageError
from holdfast.identity import certificates, installation
from holdfast.identity.certificates import ensure_certificate, server_names
from holdfast.services.platform import Platform
from holdfast.settings import Settings
from holdfast.testing.ports import MovableClock


class Cut(BaseException):
    """The power goes."""


@contextmanager
def opened(data: Path, *, new_administrator: bool = False) -> Iterator[Platform]:
    parts = build(
        data, Settings(), SystemClock(), SystemRandom(), new_administrator=new_administrator
    )
    try:
        yield parts.platform
    finally:
        parts.agents.close()
        parts.platform.catalog.close()


def admin_of(data: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((data / "admin.json").read_text())
    return found


def log_in(platform: Platform, body: dict[str, str]) -> str:
    return platform.logins.by_secret(body["client_id"], body["client_secret"], "here")


def cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the power go before the ``step``-th durable write (files and catalog)."""
    done = iter(range(1000))

    def check() -> None:
        if next(done) == step:
            raise Cut

    def before(work: Any) -> Any:
        def run(*args: Any, **named: Any) -> Any:
            check()
            return work(*args, **named)

        return run

    for module in (certificates, installation):
        monkeypatch.setattr(module, "write_whole", before(module.write_whole))
    monkeypatch.setattr(Catalog, "write", before(Catalog.write))


def test_a_first_start_cut_at_every_step_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = 0
    for step in range(30):
        data = tmp_path / str(step)
        with monkeypatch.context() as patch:
            cut_at(patch, step)
            try:
                ensure_certificate(data, server_names("127.0.0.1"), SystemClock())
                with opened(data):
                    break
            except Cut:
                cuts += 1
        ensure_certificate(data, server_names("127.0.0.1"), SystemClock())
        with opened(data) as platform:
            assert platform.authority.authenticate(f"Bearer {log_in(platform, admin_of(data))}")
            with platform.catalog.read() as connection:
                rows = access.list_principals(connection)
            assert [row.name for row in rows] == ["administrator"]
    assert cuts == 9, "every durable write of a first start was cut once"


def test_the_files_are_private_and_no_secret_is_in_the_catalog(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ensure_certificate(data, server_names("127.0.0.1"), SystemClock())
    with opened(data):
        secret = admin_of(data)["client_secret"]
    assert stat.S_IMODE((data / "keys").stat().st_mode) == 0o700
    private = [*(data / "keys").iterdir(), data / "admin.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    catalog = b"".join(path.read_bytes() for path in data.glob("catalog.sqlite*"))
    assert secret.encode() not in catalog


def test_a_lost_or_foreign_platform_key_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    key = tmp_path / "keys" / "platform.key"
    kept = key.read_bytes()
    for damage, code in (
        (None, "PlatformKeyMissing"),
        (bytes(32), "PlatformKeyWrong"),
        (b"short", "PlatformKeyWrong"),
    ):
        key.unlink()
        if damage is not None:
            key.write_bytes(damage)
        with pytest.raises(IntegrityError) as raised, opened(tmp_path):
            pass
        assert raised.value.code == code
        assert raised.value.hint
        key.write_bytes(kept)
    with opened(tmp_path):
        pass


def test_a_moved_credentials_file_is_not_made_again(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    kept = admin_of(tmp_path)
    (tmp_path / "admin.json").unlink()
    with opened(tmp_path) as platform:
        assert not (tmp_path / "admin.json").exists()
        assert log_in(platform, kept)


def test_a_new_administrator_replaces_the_old(tmp_path: Path) -> None:
    with opened(tmp_path) as platform:
        old, token = admin_of(tmp_path), log_in(platform, admin_of(tmp_path))
    with opened(tmp_path, new_administrator=True) as platform:
        new = admin_of(tmp_path)
        assert new["client_id"] != old["client_id"]
        assert new["subscription_id"] == old["subscription_id"]
        assert log_in(platform, new)
        with pytest.raises(AuthenticationError):
            log_in(platform, old)
        with pytest.raises(AuthenticationError):
            platform.authority.authenticate(f"Bearer {token}")


def test_a_lost_catalog_keeps_the_ids(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    for path in tmp_path.glob("catalog.sqlite*"):
        path.unlink()
    with opened(tmp_path) as platform:
        assert platform.subscription_id == admin_of(tmp_path)["subscription_id"]
        assert log_in(platform, admin_of(tmp_path))


def test_an_unreadable_credentials_file_is_named(tmp_path: Path) -> None:
    tmp_path.joinpath("admin.json").write_text("{}")
    with pytest.raises(UsageError) as raised, opened(tmp_path):
        pass
    assert raised.value.code == "InvalidCredentialsFile"


# certificates


def certificate_of(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_certificate_is_kept_renewed_and_extended(tmp_path: Path) -> None:
    clock = MovableClock(datetime(2026, 1, 1, tzinfo=UTC))
    path = ensure_certificate(tmp_path, ["localhost", "10.0.0.1"], clock)
    first = path.read_bytes()
    assert ensure_certificate(tmp_path, ["localhost"], clock).read_bytes() == first
    clock.jump(timedelta(days=360))
    assert ensure_certificate(tmp_path, ["localhost"], clock).read_bytes() == first
    clock.jump(timedelta(days=10))
    renewed = ensure_certificate(tmp_path, ["localhost"], clock)
    assert renewed.read_bytes() != first
    assert certificate_of(renewed).not_valid_after_utc > clock.now() + timedelta(days=300)
    for wrong in (datetime(1970, 1, 2, tzinfo=UTC), datetime(2150, 1, 1, tzinfo=UTC)):
        ensure_certificate(tmp_path, ["localhost"], MovableClock(wrong))
    more = certificate_of(ensure_certificate(tmp_path, ["backup.example", "::1"], clock))
    names = more.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in names} == {"backup.example", "::1"}


def test_damaged_certificates_are_made_anew_under_the_same_ca(tmp_path: Path) -> None:
    clock = SystemClock()
    path = ensure_certificate(tmp_path, ["localhost"], clock)
    ca = (tmp_path / "ca.pem").read_bytes()
    for damage in (b"", b"damaged", ca, (tmp_path / "keys" / "ca.key").read_bytes()):
        path.write_bytes(damage)
        ensure_certificate(tmp_path, ["localhost"], clock)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    (tmp_path / "ca.pem").unlink()
    ensure_certificate(tmp_path, ["localhost"], clock)
    old, new = (
        x509.load_pem_x509_certificate(pem) for pem in (ca, (tmp_path / "ca.pem").read_bytes())
    )
    assert old.public_key() == new.public_key()
    assert old.subject == new.subject
    certificate_of(path).verify_directly_issued_by(old)


def test_a_damaged_ca_key_is_named(tmp_path: Path) -> None:
    ensure_certificate(tmp_path, ["localhost"], SystemClock())
    (tmp_path / "keys" / "ca.key").write_text("damaged")
    with pytest.raises(IntegrityError) as raised:
        ensure_certificate(tmp_path, ["localhost"], SystemClock())
    assert raised.value.code == "CaKeyDamaged"
