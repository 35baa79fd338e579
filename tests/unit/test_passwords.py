"""Passwords: what is checked for a name nobody has."""

from __future__ import annotations

from argon2 import extract_parameters

from holdfast.adapters.clock import SystemRandom
from holdfast.identity.passwords import (
    check_password,
    hash_password,
    is_outdated,
    nobodys_password,
)


def test_an_unknown_name_costs_what_a_known_one_does() -> None:
    rng = SystemRandom()
    nobody, somebody = nobodys_password(rng), hash_password("four words by chance", rng)
    assert extract_parameters(nobody) == extract_parameters(somebody)
    assert not is_outdated(nobody)
    assert check_password("four words by chance", somebody)
    assert not check_password("four words by chance", nobody)
    assert not check_password("", nobody)
