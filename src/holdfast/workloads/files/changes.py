"""What changed in a directory since the last recovery point, and what must be read for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from holdfast.vaultstore.entries import Entry, EntryType, decode_segment
from holdfast.workloads.files.cache import Remembered
from holdfast.workloads.files.content import Source
from holdfast.workloads.files.listing import (
    LINKS,
    MODE,
    ROW,
    ROW_BYTES,
    SIZE,
    Listing,
    RowTuple,
)
from holdfast.workloads.files.metadata import entry_type, new_entry, read_link, read_xattrs
from holdfast.workloads.files.scan import Report


@dataclass(slots=True)
class Pending:
    """A directory on its way into the manifest. ``segments``: of an unchanged one. ``sources``:
    number of an entry -> the file to read for it; ``twins``: hard links of files that are read
    under another name; ``tasks`` read them; ``unsent``: some are in no task yet. ``unsure``:
    numbers of entries that the next backup must look at again, as there is a finding on them."""

    listing: Listing
    segments: list[bytes] | None = None
    entries: list[Entry] = field(default_factory=list)
    sources: dict[int, Source] = field(default_factory=dict)
    twins: list[tuple[int, Entry, Source]] = field(default_factory=list)
    tasks: list[Future[None]] = field(default_factory=list)
    unsure: list[int] = field(default_factory=list)
    unsent: bool = False

    def join_twins(self, read: Callable[[Source], None]) -> None:
        """Give hard links the content of the name that was read. Where that name could not be,
        they are read themselves, with ``read``."""
        for number, entry, first in self.twins:
            if first.gone:
                path = self.listing.path
                other = Source(path + b"/" + entry.name if path else entry.name, entry)
                read(other)
                self.sources[number] = other
                continue
            if first.unsure:
                self.unsure.append(number)
            found = first.entry
            entry.extents, entry.digest, entry.size = found.extents, found.digest, found.size
            entry.mtime_ns, entry.xattrs = found.mtime_ns, found.xattrs


class Comparer:
    """Makes entries of listings. ``base``: where "/" is read from, without leading slash."""

    def __init__(self, base: bytes, report: Report) -> None:
        self._lead = b"/" + base + b"/" if base else b"/"
        self._report = report
        self._links: dict[int, tuple[Source, int]] = {}
        self._empties: set[int] = set()  # groups of hard links to empty files

    def compare(self, listing: Listing, known: Remembered | None) -> Pending:
        """Entries of a new or changed directory; unchanged ones keep what is known of them."""
        pending = Pending(listing)
        if known is not None and known.rows == listing.rows and known.names == listing.names:
            pending.segments = known.segments
            return pending
        names = listing.name_list()
        old = _unchanged(known, listing, names) if known is not None else {}
        for number, (name, row) in enumerate(
            zip(names, ROW.iter_unpack(listing.rows), strict=True)
        ):
            entry = old.get(name)
            if entry is None:
                entry = self._new(pending, number, name, row)
                if entry is None:
                    continue
            pending.entries.append(entry)
        return pending

    def _new(self, pending: Pending, number: int, name: bytes, row: RowTuple) -> Entry | None:
        listing = pending.listing
        path = listing.path + b"/" + name if listing.path else name
        kind = entry_type(row[MODE])
        if kind is None:
            pending.unsure.append(number)
            self._report("SocketSkipped", path, "sockets cannot be protected")
            return None
        rdev = listing.devices.get(number, 0) if listing.devices else 0
        entry = new_entry(name, row, kind, rdev)
        if kind is EntryType.FILE and row[SIZE]:
            self._content(pending, number, Source(path, entry), row[LINKS])
            return entry  # its attributes are read with its content
        if entry.link_group:
            self._empty(entry)
        return entry if self._attributes(pending, number, path, entry) else None

    def _empty(self, entry: Entry) -> None:
        """A restored link has the content of the first name: one that was listed empty is no link
        of one that was not."""
        if entry.link_group in self._links:
            entry.link_group = 0
        else:
            self._empties.add(entry.link_group)

    def _attributes(self, pending: Pending, number: int, path: bytes, entry: Entry) -> bool:
        """What no content is read of: extended attributes, a link's target. False: it vanished."""
        full = self._lead + path
        try:
            entry.xattrs = read_xattrs(full)
            if entry.type == EntryType.SYMLINK:
                entry.link_target = read_link(full)
        except FileNotFoundError:
            pending.unsure.append(number)
            self._report("FileVanished", path, "it vanished while it was read")
            return False
        except OSError as error:
            pending.unsure.append(number)
            self._report("AttributeUnreadable", path, error.strerror or str(error))
        return True

    def _content(self, pending: Pending, number: int, source: Source, links: int) -> None:
        """Have the file read, unless another name of it is."""
        group = source.entry.link_group
        if group in self._empties:  # filled since another name of it was listed
            group = source.entry.link_group = 0
        if group:
            first, left = self._links.get(group, (None, links))
            if left <= 1 and first is not None:
                self._links.pop(group, None)
            else:
                self._links[group] = (first or source, left - 1)
            if first is not None:
                pending.twins.append((number, source.entry, first))
                return
        pending.sources[number] = source


def _unchanged(known: Remembered, listing: Listing, names: list[bytes]) -> dict[bytes, Entry]:
    """Entries of ``known`` whose row is the same now."""
    old, new = known.rows, listing.rows
    before = {
        name: old[n * ROW_BYTES : (n + 1) * ROW_BYTES]
        for n, name in enumerate(known.names.split(b"\0") if old else [])
    }
    same = {
        name
        for n, name in enumerate(names)
        if before.get(name) == new[n * ROW_BYTES : (n + 1) * ROW_BYTES]
    }
    if not same:
        return {}
    found: dict[bytes, Entry] = {}
    for segment in known.segments:
        try:
            found.update({e.name: e for e in decode_segment(segment) if e.name in same})
        except Exception:  # noqa: BLE001 - whatever is wrong with a cache: read the files again
            return {}
    return found
