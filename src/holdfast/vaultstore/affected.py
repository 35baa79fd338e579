"""Which files and disks of a recovery point need chunks that are lost."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from holdfast.errors import HoldfastError, IntegrityError, ObjectMissingError
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.manifest_files import LOSSES, FileTree
from holdfast.vaultstore.manifest_pages import page_references, path_of_key
from holdfast.vaultstore.references import MissingChunksError
from holdfast.vaultstore.restoring import PointReader
from holdfast.vaultstore.state import Point

FILES_NAMED = 1000
PAGES_AT_ONCE = 32


@dataclass(slots=True)
class Affected:
    """``files``: the first paths, of ``count``. ``gaps``: paths from which on the list of files
    itself is lost. ``streams``: disks and other streams that lost something. ``whole``: nothing of
    the point can be read."""

    files: list[bytes] = field(default_factory=list)
    count: int = 0
    gaps: list[bytes] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    whole: bool = False

    def names(self) -> Iterator[bytes]:
        yield from self.files
        yield from (gap + b"..." for gap in self.gaps)
        yield from (name.encode() for name in self.streams)


def affected_by(core: VaultCore, point: Point, lost: Collection[bytes]) -> Affected:
    """Files of a point with a chunk among the ``lost`` ids. Reads the point's whole list."""
    found = Affected()
    try:
        reader = PointReader(core, point)
        root = reader.root()
    except (IntegrityError, ObjectMissingError, MissingChunksError):
        found.whole = True
        return found
    for stream in root.streams:
        if stream.kind == "file-tree":
            _files(reader, stream.page_root, frozenset(lost), found)
        elif _is_touched(reader, stream.page_root, frozenset(lost)):
            found.streams.append(stream.name)
    return found


def _is_touched(reader: PointReader, page_root: bytes, lost: frozenset[bytes]) -> bool:
    """Whether a stream has lost a page or a chunk."""
    level = [page_root]
    while level:
        try:
            pages = [page_references(page) for page in reader.fetch(level[:PAGES_AT_ONCE])]
        except LOSSES:
            return True
        del level[:PAGES_AT_ONCE]
        for page in pages:
            if any(chunk.tobytes() in lost for chunk in page.chunks):
                return True
            level += page.pages
    return False


def _files(reader: PointReader, page_root: bytes, lost: frozenset[bytes], found: Affected) -> None:
    def gap(key: bytes, _error: HoldfastError) -> None:
        found.gaps.append(path_of_key(key))

    tree = FileTree(lambda page_id: reader.fetch([page_id])[0], page_root, reader.fetch, gap)
    for folder, entries in tree.walk():
        for entry in entries:
            if any(extent[0] in lost for extent in entry.extents):
                found.count += 1
                if len(found.files) < FILES_NAMED:
                    found.files.append(folder + b"/" + entry.name if folder else entry.name)
