"""Secrets as people type them."""

from __future__ import annotations

import base64
import re

from holdfast.identity.secrets import check_secret, hash_secret, new_secret

BITS = 256


class Drawn:
    """Randomness that begins with a given byte."""

    def __init__(self, first: int) -> None:
        self.first = first

    def token(self, count: int) -> bytes:
        return bytes([self.first]) + bytes(range(1, count))


def test_a_secret_is_no_option_whatever_is_drawn() -> None:
    made = [new_secret(Drawn(first)) for first in range(256)]
    assert [secret for secret in made if not secret[0].isalnum()] == [], "0xF8 is base64's -"
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43,128}", secret) for secret in made), "as of PKCE"


def test_no_drawn_bit_is_lost() -> None:
    drawn = {Drawn(first).token(BITS // 8) for first in range(256)}
    assert {base64.urlsafe_b64decode(new_secret(Drawn(n))[1:] + "=") for n in range(256)} == drawn


def test_a_made_secret_is_checked_whole() -> None:
    secret = new_secret(Drawn(0xF8))
    stored = hash_secret(secret, Drawn(0))
    assert check_secret(secret, stored)
    assert not check_secret(secret[1:], stored)
