"""Keys wrapped for a recovery point: opened by one session's key and no other."""

from __future__ import annotations

import pytest

from holdfast.errors import IntegrityError
from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore.machine_keys import MachineKey, unwrap_keys, wrap_keys, wrapping_key

VAULT = b"V" * 16
SESSION = bytes(range(32))
KEYS = (
    MachineKey(name="root", version="1", value=b"\x00\xffkey of the root"),
    MachineKey(name="data", version="3", luns=(-1, 0), value=b"key of the data"),
)


def wrapped(seed: int = 1) -> bytes:
    return wrap_keys(wrapping_key(SESSION), VAULT, KEYS, SeededRandom(seed))


def test_they_come_back_and_are_not_seen() -> None:
    data = wrapped()
    assert unwrap_keys(wrapping_key(SESSION), VAULT, data) == KEYS
    for secret in (b"key of the", b"root", b"data"):
        assert secret not in data
    assert "key of" not in repr(KEYS)


def test_equal_keys_are_not_seen_to_be_equal() -> None:
    first, second = wrapped(1), wrapped(2)
    assert first[34:50] != second[34:50]


@pytest.mark.parametrize(
    ("key", "vault"),
    [
        (SESSION, VAULT),  # the session's key itself, which seals frames
        (wrapping_key(b"\x01" * 32), VAULT),
        (b"", VAULT),
        (wrapping_key(SESSION), b"W" * 16),
    ],
)
def test_nothing_else_opens_them(key: bytes, vault: bytes) -> None:
    with pytest.raises(IntegrityError) as refused:
        unwrap_keys(key, vault, wrapped())
    assert refused.value.code == "MachineKeysDamaged"


def test_every_damage_is_noticed() -> None:
    data = wrapped()
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(IntegrityError):
            unwrap_keys(wrapping_key(SESSION), VAULT, altered)
    for length in (0, 1, 2, 34, 50, len(data) - 1):
        with pytest.raises(IntegrityError):
            unwrap_keys(wrapping_key(SESSION), VAULT, data[:length])


def test_a_newer_wrap_is_said_to_be_newer() -> None:
    with pytest.raises(IntegrityError) as refused:
        unwrap_keys(wrapping_key(SESSION), VAULT, b"K\x02" + wrapped()[2:])
    assert refused.value.code == "FormatTooNew"
