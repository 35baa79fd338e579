"""The records of the commit log: what may happen to a vault, as values.

A record is a list of operations that become true together. Its body is msgpack, sealed and signed
as an object ``log/<sequence, 16 digits>`` (docs/design/vault-format.md). ``previous`` is the hash
of the whole previous object; record 1 carries the hash of the vault descriptor, so that neither
can be exchanged. A record says nothing about validity: ``state`` decides that.
"""

from __future__ import annotations

from typing import Any

import msgspec

FIRST_SEQUENCE = 1


class _Operation(msgspec.Struct, frozen=True, kw_only=True, tag_field="op"):
    """Base of all operations; the tag names them in the bytes."""


class VaultOpened(_Operation, tag="vault-opened", frozen=True, kw_only=True):
    """The vault begins. Only in the first record."""

    vault_id: bytes
    domain_id: bytes


class SessionOpened(_Operation, tag="session-opened", frozen=True, kw_only=True):
    """A session begins. ``pins`` stay readable until it ends; ``parent`` is the item's newest point
    (one of the pins) for a backup. ``wrapped_key`` is the session key under epoch ``epoch`` of the
    domain ring; empty for sessions that write nothing."""

    session_id: bytes
    kind: str
    container: str
    item_key: str
    job_id: bytes
    attempt: int
    pins: tuple[str, ...]
    parent: str
    epoch: int
    wrapped_key: bytes


class SessionClosed(_Operation, tag="session-closed", frozen=True, kw_only=True):
    """A session ends; ``reason`` is empty when its holder ended it."""

    session_id: bytes
    reason: str = ""


class PackAdded(msgspec.Struct, frozen=True, kw_only=True):
    """A pack that is durable. Its ordinal is the state's ``next_pack`` plus its place in the list.
    ``session_id``: whose key sealed it (an adopted pack keeps its own)."""

    pack_id: bytes
    session_id: bytes
    pack_class: int
    size: int
    hash: bytes
    header_hash: bytes


class TableAdded(msgspec.Struct, frozen=True, kw_only=True):
    """An index table that is durable. Row i has ordinal ``base`` + i; row's pack number counts into
    the packs added by the same operation."""

    table_id: bytes
    base: int
    rows: int
    size: int
    hash: bytes


class PacksAdded(_Operation, tag="packs-added", frozen=True, kw_only=True):
    """The ``progress`` operation: packs and their table become part of the vault. ``session_id``
    is who adds; packs of another session (an earlier attempt) may be adopted while it is open."""

    session_id: bytes
    packs: tuple[PackAdded, ...]
    table: TableAdded


class RefsetNamed(msgspec.Struct, frozen=True, kw_only=True):
    """The refset object of a recovery point. ``name`` is the key below ``refsets/``."""

    name: str
    hash: bytes
    count: int


class PointCommitted(_Operation, tag="point-committed", frozen=True, kw_only=True):
    """A recovery point becomes true. ``time_ns`` is since the epoch; ``facts`` are the service's
    words, ``claims`` the agent's."""

    session_id: bytes
    rp_id: str
    item_key: str
    job_id: bytes
    parent: str
    root_id: bytes
    refset: RefsetNamed
    time_ns: int
    type: str
    scheduled: bool
    tags: tuple[str, ...]
    retain_until_ns: int | None
    logical_bytes: int
    stored_bytes: int
    item_document: dict[str, Any]
    claims: dict[str, Any]


class PointDropped(msgspec.Struct, frozen=True, kw_only=True):
    """A recovery point leaves, with the reason shown in the plan."""

    rp_id: str
    reason: str


class PointsExpired(_Operation, tag="points-expired", frozen=True, kw_only=True):
    """Recovery points leave. ``explicit``: a person asked for it, which alone may take the latest
    point of an item."""

    points: tuple[PointDropped, ...]
    explicit: bool


class PacksCondemned(_Operation, tag="packs-condemned", frozen=True, kw_only=True):
    """From here on no chunk of these packs is ever referenced again. They are computed from the
    refsets of the state before this record; the hash chain binds the record to that state."""

    packs: tuple[bytes, ...]


class PacksSwept(_Operation, tag="packs-swept", frozen=True, kw_only=True):
    """Condemned packs past their fence are gone from the store, and the tables that only spoke of
    gone packs leave the table set."""

    packs: tuple[bytes, ...]
    tables: tuple[bytes, ...]


class ClockConfirmed(_Operation, tag="clock-confirmed", frozen=True, kw_only=True):
    """A person said the clock is right; vault time becomes ``time_ns``, even if that is earlier."""

    time_ns: int


class KeyExported(_Operation, tag="key-exported", frozen=True, kw_only=True):
    """A recovery key was exported."""


class PointRepaired(_Operation, tag="point-repaired", frozen=True, kw_only=True):
    """A recovery point's refset is another object from here on: the same chunks, those of them that
    were damaged as sound copies of the same ids. ``session_id``: the repair that wrote it."""

    session_id: bytes
    rp_id: str
    refset: RefsetNamed


class TableRepaired(_Operation, tag="table-repaired", frozen=True, kw_only=True):
    """Table ``table_id`` was damaged; ``table`` holds the same rows and stands in its place.
    ``session_id``: the repair that wrote it."""

    session_id: bytes
    table_id: bytes
    table: TableAdded


class HeadSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A head somebody saw that the log does not hold. ``by``: who."""

    sequence: int
    term: int
    hash: bytes
    by: str


class HeadAccepted(_Operation, tag="head-accepted", frozen=True, kw_only=True):
    """A person said that the log goes on from here, under ``term``, which is the record's own and
    higher than any before. ``witnessed``: heads that are given up; ``lost``: recovery points known
    to have been made that this log does not hold."""

    term: int
    witnessed: tuple[HeadSeen, ...]
    lost: tuple[str, ...]


class PackBirth(msgspec.Struct, frozen=True, kw_only=True):
    """A pack in which moved frames were born: what their keys and authenticated data come from."""

    pack_id: bytes
    header_hash: bytes
    session_id: bytes


class PackRewritten(msgspec.Struct, frozen=True, kw_only=True):
    """A durable pack of moved frames. A row's ``origin`` n > 0 is entry n - 1 of ``births``, which
    are those of the pack's own header."""

    pack: PackAdded
    births: tuple[PackBirth, ...]


class TableReplaced(msgspec.Struct, frozen=True, kw_only=True):
    """A durable table that takes the place of ``table_id``: the same ids under the same ordinals,
    some of them elsewhere. ``packs``: which its header names behind those of the old one."""

    table_id: bytes
    table: TableAdded
    packs: tuple[bytes, ...]


class PacksRewritten(_Operation, tag="packs-rewritten", frozen=True, kw_only=True):
    """The needed frames of ``sources`` lie in new packs from here on; ordinals stay. What is left
    in the sources is condemned later, like any other pack that nothing needs."""

    session_id: bytes
    sources: tuple[bytes, ...]
    packs: tuple[PackRewritten, ...]
    tables: tuple[TableReplaced, ...]


class ImmutabilitySet(_Operation, tag="immutability-set", frozen=True, kw_only=True):
    """The vault is Unlocked or Locked from here on: what is locked does not go before its horizon.
    Disabled, which never follows Locked, takes all horizons away."""

    state: str


class PointLock(msgspec.Struct, frozen=True, kw_only=True):
    """Until when [ns of vault time] a recovery point cannot leave."""

    rp_id: str
    until_ns: int


class PointsLocked(_Operation, tag="points-locked", frozen=True, kw_only=True):
    """Recovery points of an immutable vault cannot leave before their time, by whatever plan."""

    points: tuple[PointLock, ...]


class PacksLocked(_Operation, tag="packs-locked", frozen=True, kw_only=True):
    """Packs of an immutable vault are not deleted before ``until_ns`` of vault time, and neither is
    what is needed to read them."""

    until_ns: int
    packs: tuple[bytes, ...]


Operation = (
    VaultOpened
    | SessionOpened
    | SessionClosed
    | PacksAdded
    | PointCommitted
    | PointsExpired
    | PacksCondemned
    | PacksSwept
    | ClockConfirmed
    | KeyExported
    | PointRepaired
    | TableRepaired
    | HeadAccepted
    | PacksRewritten
    | ImmutabilitySet
    | PointsLocked
    | PacksLocked
)


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record. ``time_ns`` is the vault time when it was made (it never orders anything)."""

    sequence: int
    term: int
    previous: bytes
    time_ns: int
    operations: tuple[Operation, ...]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(LogRecord)


def encode_record(record: LogRecord) -> bytes:
    """The body's bytes, before sealing."""
    return _ENCODER.encode(record)


def decode_record(data: bytes) -> LogRecord:
    """The record of a body. Raises msgspec.DecodeError when it is none this version knows."""
    return _DECODER.decode(data)
