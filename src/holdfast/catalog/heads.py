"""Heads of vaults' logs that this server and agents saw: a store must not fall behind them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, or_

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert, many, selecting, update
from holdfast.catalog.vaults import VaultRow
from holdfast.vaultstore.head import Head
from holdfast.vaultstore.log import HeadSeen

BY_SERVER = "this server"


@dataclass(frozen=True, slots=True)
class WitnessRow:
    """The newest head an agent brought. ``named``: the agent in words; ``hash``: hex."""

    vault_id: str
    container_id: str
    named: str
    sequence: int
    term: int
    hash: str
    seen_at: datetime


_V = t.vaults.c
_C = t.head_witnesses.c
_ALL = selecting(t.head_witnesses, WitnessRow)


def note_head(connection: Connection, vault_id: str, head: Head) -> int:
    """Remember the head the server sees, unless it remembers a newer one; whether it did."""
    newer = or_(
        _V.head_term < head.term,
        and_(_V.head_term == head.term, _V.head_sequence < head.sequence),
    )
    values = {
        "head_sequence": head.sequence,
        "head_term": head.term,
        "head_hash": head.hash.hex(),
    }
    return update(connection, t.vaults, values, _V.id == vault_id, newer)


def witnesses_of(connection: Connection, vault: VaultRow) -> list[HeadSeen]:
    """Every head that was seen of a vault, the newest first."""
    rows = many(connection, WitnessRow, _ALL.where(_C.vault_id == vault.id))
    found = [
        HeadSeen(sequence=row.sequence, term=row.term, hash=bytes.fromhex(row.hash), by=row.named)
        for row in rows
    ]
    if vault.head_term:
        own = bytes.fromhex(vault.head_hash)
        found.append(
            HeadSeen(sequence=vault.head_sequence, term=vault.head_term, hash=own, by=BY_SERVER)
        )
    return sorted(found, key=lambda seen: (seen.term, seen.sequence), reverse=True)


def keep_witness(connection: Connection, row: WitnessRow) -> None:
    """Remember the head an agent brought; one it brings later takes its place."""
    where = (_C.vault_id == row.vault_id, _C.container_id == row.container_id)
    values = {
        "named": row.named,
        "sequence": row.sequence,
        "term": row.term,
        "hash": row.hash,
        "seen_at": row.seen_at,
    }
    if not update(connection, t.head_witnesses, values, *where):
        insert(connection, t.head_witnesses, row)
