"""Rings, slots and exported keys: who opens what, and who does not."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.errors import AccessError, HoldfastError, IntegrityError, UsageError
from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore import keys, ring_slots
from holdfast.vaultstore.keys import Locks, Opener
from holdfast.vaultstore.recovery_key import make_recovery_key, open_recovery_key

VAULT, DOMAIN, SESSION = b"v" * 16, b"d" * 16, b"s" * 16
PLATFORM = b"p" * 32
FAST = 2**4


def make() -> tuple[keys.ServiceRing, keys.DomainRing, SeededRandom]:
    rng = SeededRandom(7)
    return keys.new_service_ring(rng), keys.new_domain_ring(DOMAIN, rng), rng


def test_the_platform_key_opens_both_rings() -> None:
    service, domain, rng = make()
    opener = Opener(platform_key=PLATFORM)
    data = keys.encode_ring(service, VAULT, service.signer, rng, platform_key=PLATFORM)
    assert keys.open_service_ring(data, VAULT, opener)[0] == service
    data = keys.encode_ring(domain, VAULT, service.signer, rng, platform_key=PLATFORM)
    found, _ = keys.open_domain_ring(data, VAULT, opener, service.verifier, DOMAIN)
    assert found == domain
    with pytest.raises(AccessError):
        keys.open_domain_ring(data, VAULT, Opener(platform_key=b"q" * 32), service.verifier)
    with pytest.raises(IntegrityError):
        keys.open_domain_ring(data, b"w" * 16, opener, service.verifier)
    with pytest.raises(IntegrityError):
        keys.open_domain_ring(data, VAULT, opener, service.verifier, b"e" * 16)


def test_an_exported_key_opens_epochs_made_after_the_export() -> None:
    service, domain, rng = make()
    file, public = make_recovery_key(VAULT, service.verifier, "correct horse", rng, scrypt_n=FAST)
    first = domain.epoch
    for _ in range(2):
        domain = keys.rotate_epoch(domain, rng)
        data = keys.encode_ring(
            domain,
            VAULT,
            service.signer,
            rng,
            platform_key=PLATFORM,
            recovery_publics=(public,),
        )
    vault_id, opener = open_recovery_key(file, "correct horse")
    assert vault_id == VAULT
    found, slots = keys.open_domain_ring(data, VAULT, opener, service.verifier)
    assert found == domain
    assert keys.recovery_publics(slots) == (public,)
    assert set(found.epochs) == {first, first + 1, first + 2}
    wrapped = keys.wrap_session_key(found, VAULT, SESSION, "Linux;a", b"k" * 32, rng)
    opened = keys.unwrap_session_key(domain, VAULT, SESSION, "Linux;a", found.epoch, wrapped)
    assert opened == b"k" * 32


def test_a_wrong_passphrase_and_a_wrong_file_are_told_apart() -> None:
    service, _, rng = make()
    file, _ = make_recovery_key(VAULT, service.verifier, "correct horse", rng, scrypt_n=FAST)
    with pytest.raises(AccessError) as refused:
        open_recovery_key(file, "wrong horse")
    assert refused.value.code == "WrongPassphrase"
    for other in (b"", b"{}", b"\xff\x00", file[:-30]):
        with pytest.raises(UsageError) as unusable:
            open_recovery_key(other, "correct horse")
        assert unusable.value.code == "KeyFileInvalid"
    with pytest.raises(UsageError):
        make_recovery_key(VAULT, service.verifier, "short", rng, scrypt_n=FAST)


def test_an_altered_key_file_is_refused_before_it_costs_memory() -> None:
    service, _, rng = make()
    file, _ = make_recovery_key(VAULT, service.verifier, "correct horse", rng, scrypt_n=FAST)
    document = msgspec.json.decode(file)
    for changes in (
        {"n": 2**40},
        {"n": 3},
        {"r": 4096},
        {"version": 2},
        {"salt": ""},
        {"vault_id": "00" * 16},
    ):
        with pytest.raises(HoldfastError):
            open_recovery_key(msgspec.json.encode({**document, **changes}), "correct horse")


def test_a_forged_ring_is_refused_by_a_recovery_key() -> None:
    """The public half is no secret: anyone may wrap a ring of his own to it."""
    service, _, rng = make()
    file, public = make_recovery_key(VAULT, service.verifier, "correct horse", rng, scrypt_n=FAST)
    _, opener = open_recovery_key(file, "correct horse")
    forger = keys.new_service_ring(rng)
    for ring in (forger, keys.new_domain_ring(DOMAIN, rng)):
        data = keys.encode_ring(
            ring, VAULT, forger.signer, rng, platform_key=b"f" * 32, recovery_publics=(public,)
        )
        with pytest.raises(IntegrityError) as refused:
            if isinstance(ring, keys.ServiceRing):
                keys.open_service_ring(data, VAULT, opener)
            else:
                keys.open_domain_ring(data, VAULT, opener, service.verifier)
        assert refused.value.code == "KeyringForged"


def test_no_byte_of_a_ring_can_change() -> None:
    service, _, rng = make()
    opener = Opener(platform_key=PLATFORM)
    data = keys.encode_ring(service, VAULT, service.signer, rng, platform_key=PLATFORM)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises((IntegrityError, AccessError)):
            keys.open_service_ring(bytes(changed), VAULT, opener)
    for length in range(len(data)):
        with pytest.raises((IntegrityError, AccessError)):
            keys.open_service_ring(data[:length], VAULT, opener)


def test_a_ring_opens_by_passphrase_and_by_customer_key_and_skips_unknown_slots() -> None:
    service, domain, rng = make()
    locks = Locks(
        passphrase="only the agents know",
        scrypt_n=FAST,
        customer_key=b"c" * 32,
        customer_key_name="vaults/blue",
    )
    data = keys.encode_locked_ring(domain, VAULT, service.signer, rng, locks)
    for opener in (Opener(passphrase="only the agents know"), Opener(customer_key=b"c" * 32)):
        found, slots = keys.open_domain_ring(data, VAULT, opener, service.verifier)
        assert found == domain
    assert [slot.kind for slot in slots] == ["customer", "passphrase"]
    for opener in (Opener(passphrase="a guess"), Opener(platform_key=PLATFORM)):
        with pytest.raises(AccessError):
            keys.open_domain_ring(data, VAULT, opener, service.verifier)
    unknown = keys.Slot(kind="threshold", wrapped=b"?")
    known = ring_slots.make_slots(Locks(platform_key=PLATFORM), b"k" * 32, b"bound", rng)
    opener = Opener(platform_key=PLATFORM)
    assert ring_slots.open_slots((unknown, *known), opener, b"bound") == b"k" * 32


def test_a_session_key_belongs_to_one_vault_session_container_and_epoch() -> None:
    _, domain, rng = make()
    domain = keys.rotate_epoch(domain, rng)
    wrapped = keys.wrap_session_key(domain, VAULT, SESSION, "Linux;a", b"k" * 32, rng)
    assert len(wrapped) == 60
    rows = [
        (b"w" * 16, SESSION, "Linux;a", 2),
        (VAULT, b"t" * 16, "Linux;a", 2),
        (VAULT, SESSION, "Linux;b", 2),
        (VAULT, SESSION, "Linux;a", 1),
        (VAULT, SESSION, "Linux;a", 3),
    ]
    for vault, session, container, epoch in rows:
        with pytest.raises(IntegrityError) as refused:
            keys.unwrap_session_key(domain, vault, session, container, epoch, wrapped)
        assert refused.value.code == "SessionKeyForged"


def test_keys_do_not_show_in_representations() -> None:
    service, domain, _ = make()
    shown = repr((service, domain, Opener(platform_key=PLATFORM), Locks(platform_key=PLATFORM)))
    assert "pppp" not in shown
    assert service.log.hex() not in shown
    assert repr(service.log) not in shown
