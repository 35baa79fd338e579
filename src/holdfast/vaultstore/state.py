"""What the log says: the state of a vault after a record.

States are changed only by ``transitions.next_state``. Order is the record's number; no rule here
compares times.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from holdfast.errors import IntegrityError
from holdfast.vaultstore import log
from holdfast.vaultstore.merkle import Peaks

ZERO_HASH = bytes(32)
UNPROTECTED = "Disabled"  # as ``immutability``


class InvalidRecordError(IntegrityError):
    """A record that may not follow the state it is given to."""

    code = "LogRecordInvalid"


@dataclass(frozen=True, slots=True)
class PackEntry:
    """A pack of the vault. ``added_by``: the session whose record added it. ``births``: of the
    frames that were moved into it. ``lock_until_ns``: its horizon; 0: none."""

    ordinal: int
    pack: log.PackAdded
    added_by: bytes
    added_sequence: int
    condemned_at: int | None = None
    births: tuple[log.PackBirth, ...] = ()
    lock_until_ns: int = 0

    @property
    def sealers(self) -> list[bytes]:
        """The sessions whose keys open it and its frames."""
        return list(dict.fromkeys((self.pack.session_id, *(b.session_id for b in self.births))))


@dataclass(frozen=True, slots=True)
class TableEntry:
    """An index table and the packs its rows lie in, in the order of their numbers in it: those it
    was made with, which have the vault's numbers from ``first_pack`` on, and those (id, number)
    that rows were ``moved`` into."""

    table: log.TableAdded
    packs: tuple[bytes, ...]
    first_pack: int
    container: int
    moved: tuple[tuple[bytes, int], ...] = ()

    @property
    def all_packs(self) -> tuple[bytes, ...]:
        """As the table's header names them."""
        return (*self.packs, *(pack_id for pack_id, _ in self.moved))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The vault's numbers of ``all_packs``."""
        own = range(self.first_pack, self.first_pack + len(self.packs))
        return (*own, *(number for _, number in self.moved))

    def places_of(self, numbers: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """The places in ``all_packs`` of packs of these numbers, which are all of the table."""
        known = np.array(self.numbers, np.uint32)
        order = np.argsort(known, kind="stable")
        return order[np.searchsorted(known[order], numbers)].astype(np.uint32)


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """An open session."""

    opened: log.SessionOpened
    sequence: int
    committed: str | None = None


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The wrapped key that opens the packs of a session, kept while such packs exist, and for whom
    they were sent."""

    epoch: int
    wrapped_key: bytes
    container: str
    item_key: str
    job_id: bytes
    packs: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """A recovery point, the record that made it, and until when it cannot leave (0: no lock)."""

    op: log.PointCommitted
    sequence: int
    lock_until_ns: int = 0


@dataclass(slots=True)
class LogState:
    """The vault after record ``sequence``; see the module for what may follow.

    ``points``: live recovery points, in log order. ``expired``: dropped points that an open session
    still pins. ``by_item``: live points of an item, oldest first. ``item_commits``: number of the
    last record that committed a point of an item, kept when the point leaves. ``merkle``: of the
    hashes of all records. ``immutability``: Disabled, Unlocked or Locked; no pack has a horizon
    while it is Disabled. ``retired``: horizons of tables that others took the place of.
    """

    sequence: int = 0
    hash: bytes = ZERO_HASH
    term: int = 1
    time_ns: int = 0
    vault_id: bytes = b""
    domain_id: bytes = b""
    next_ordinal: int = 0
    next_pack: int = 0
    key_exported: bool = False
    packs: dict[bytes, PackEntry] = field(default_factory=dict)
    tables: dict[bytes, TableEntry] = field(default_factory=dict)
    sealing_keys: dict[bytes, SealingKey] = field(default_factory=dict)
    containers: dict[str, int] = field(default_factory=dict)
    sessions: dict[bytes, SessionEntry] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    expired: dict[str, Point] = field(default_factory=dict)
    by_item: dict[str, tuple[str, ...]] = field(default_factory=dict)
    by_job: dict[tuple[str, bytes], str] = field(default_factory=dict)
    item_commits: dict[str, int] = field(default_factory=dict)
    merkle: Peaks = ()
    immutability: str = UNPROTECTED
    retired: dict[bytes, int] = field(default_factory=dict)

    def copy(self) -> LogState:
        """A copy whose maps may be changed; the entries are shared and immutable."""
        result = copy(self)
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, dict):
                setattr(result, name, dict(value))
        return result

    # questions

    def newest(self, item_key: str) -> str:
        """The item's newest live point, or an empty string."""
        points = self.by_item.get(item_key, ())
        return points[-1] if points else ""

    def pinned(self) -> Mapping[str, list[bytes]]:
        """Pinned recovery points and the open sessions that pin them."""
        pins: dict[str, list[bytes]] = {}
        for session_id, entry in self.sessions.items():
            for rp_id in entry.opened.pins:
                pins.setdefault(rp_id, []).append(session_id)
        return pins

    def fence_of(self, condemned_at: int) -> list[bytes]:
        """Open sessions that were open before record ``condemned_at``."""
        return [
            session_id
            for session_id, entry in self.sessions.items()
            if entry.sequence < condemned_at
        ]

    def bytes_sent_for(self, item_key: str, job_id: bytes) -> int:
        """Size of the packs that sessions of a job sent, all attempts together."""
        keys = self.sealing_keys
        wanted = {s for s, k in keys.items() if (k.item_key, k.job_id) == (item_key, job_id)}
        return sum(e.pack.size for e in self.packs.values() if e.pack.session_id in wanted)

    def table_horizon_ns(self, entry: TableEntry) -> int:
        """Until when a table is locked: as long as any pack it speaks of."""
        found = (self.packs.get(pack_id) for pack_id in entry.all_packs)
        return max((one.lock_until_ns for one in found if one is not None), default=0)

    def horizon_ns(self) -> int:
        """The latest horizon of any pack or point: so long log and key rings are needed."""
        packs = (entry.lock_until_ns for entry in self.packs.values())
        points = (point.lock_until_ns for point in self.points.values())
        return max((*packs, *points, *self.retired.values()), default=0)

    def is_live_table(self, table_id: bytes) -> bool:
        """Whether any pack of the table is still part of the vault."""
        return any(pack_id in self.packs for pack_id in self.tables[table_id].all_packs)

    def with_session(self, session_id: bytes, **changes: object) -> None:
        """Replace fields of an open session (used by transitions)."""
        self.sessions[session_id] = replace(self.sessions[session_id], **changes)  # type: ignore[arg-type]
