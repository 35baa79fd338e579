"""Heads of the log, and what it means when a witness remembers another one than the store serves.

A head names the newest record of a log: its number, its term and the hash of its object, which
binds every record before it. Whoever remembers one (the server's catalog, each agent, a person
who noted it down) is a witness: a store cannot serve an older or another log without contradicting
them. Only a record that accepts a head (``log.HeadAccepted``), which raises the term, puts
witnesses of lower terms out of force.
"""

from __future__ import annotations

import hmac
import re

import msgspec
from blake3 import blake3

from holdfast.errors import IntegrityError, UsageError
from holdfast.vaultstore import layout

HASH_BYTES = 32
_MAC_BYTES = 32
_MAC_CONTEXT = b"holdfast head witness"
_TEXT = re.compile(r"(\d{1,18})(?::([0-9a-fA-F]{64}))?", re.ASCII)
HINT = (
    "Nothing is written; restores of what is there work. Put the vault's newest folder or bucket "
    "back, or go on with this one: holdfast vault accept-head NAME --plan names what that gives up."
)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The newest record of a log. ``hash``: of its whole object, 32 bytes; empty when whoever noted
    it down kept the number only."""

    sequence: int
    term: int
    hash: bytes

    @property
    def text(self) -> str:
        """``SEQ:HASH``, as `vault audit --since` takes it."""
        return f"{self.sequence}:{self.hash.hex()}" if self.hash else str(self.sequence)

    def is_newer_than(self, other: Head) -> bool:
        """Whether it stands for a later decision: a higher term, or more records of the same."""
        return (self.term, self.sequence) > (other.term, other.sequence)


def parse_head(text: str) -> Head:
    """The head of ``SEQ`` or ``SEQ:HASH``, its term unknown (0). UsageError (InvalidHead)."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text[:100]!r} is no head of a log",
            code="InvalidHead",
            hint="give SEQ or SEQ:HASH as holdfast vault show prints it",
        )
    return Head(sequence=int(match[1]), term=0, hash=bytes.fromhex(match[2] or ""))


def rolled_back(here: Head, seen: Head, by: str) -> IntegrityError:
    return IntegrityError(
        f"the store serves an older log: it ends at record {here.sequence} of term {here.term}, "
        f"while {by} saw record {seen.sequence}"
        f"{f' of term {seen.term}' if seen.term else ''}",
        code="LogRolledBack",
        hint=HINT,
        target=seen.text,
    )


def cut_off(seen: Head, by: str) -> IntegrityError:
    key = layout.log_key(seen.sequence)
    return IntegrityError(
        f"log record {key}, which {by} has seen, is not in the store",
        code="LogCut",
        hint=HINT,
        target=key,
    )


def forked(here: Head, seen: Head, by: str) -> IntegrityError:
    return IntegrityError(
        f"the store serves another log: its record {seen.sequence} is not the one {by} saw "
        f"(hash {seen.hash.hex()[:16]}); it ends at record {here.sequence}",
        code="LogForked",
        hint=HINT,
        target=seen.text,
    )


def write_witness(key: bytes, vault_id: bytes, head: Head) -> bytes:
    """A head as agents keep it: with a MAC, so that none can be made up. ``key``: the service
    ring's receipt key."""
    body = msgspec.msgpack.encode(head)
    return body + _mac(key, vault_id, body)


def read_witness(key: bytes, vault_id: bytes, data: bytes) -> Head | None:
    """The head an agent was given; None for what this vault's service never wrote."""
    body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if not hmac.compare_digest(_mac(key, vault_id, body), mac):
        return None
    return msgspec.msgpack.decode(body, type=Head)


def unchecked_head(data: bytes) -> Head | None:
    """The head in a token, for whoever cannot check its MAC; None for what is none."""
    try:
        return msgspec.msgpack.decode(data[:-_MAC_BYTES], type=Head)
    except msgspec.MsgspecError:
        return None


def _mac(key: bytes, vault_id: bytes, body: bytes) -> bytes:
    return blake3(_MAC_CONTEXT + vault_id + body, key=key).digest()
