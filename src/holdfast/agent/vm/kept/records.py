"""What the agent writes down of local copies: a file for each, in a folder of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from holdfast.domain.path_text import decode_path, encode_path
from holdfast.files import read_small, write_whole
from holdfast.ports.image_copy import Mark

log = logging.getLogger("holdfast.agent")


class KeptDisk(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``path``: of the copy, as ``encode_path`` writes it. ``size``: as the guest sees it.
    ``mark``: None until it is whole."""

    lun: int
    path: str
    format: str
    size: int
    mark: Mark | None = None

    @property
    def place(self) -> Path:
        return Path(os.fsdecode(decode_path(self.path)))


class Kept(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Copies of a machine's disks in one point in time. ``point``: the recovery point that has the
    same in the vault, "" without one; ``job``: of the backup; ``described``: the machine, as a
    point keeps it; empty until the copies stand."""

    token: str
    uuid: str
    job: str
    taken_at: datetime
    until: datetime
    disks: tuple[KeptDisk, ...] = ()
    point: str = ""
    consistency: str = ""
    reason: str = ""
    described: dict[str, Any] = {}

    @property
    def standing(self) -> bool:
        return bool(self.disks) and all(disk.mark is not None for disk in self.disks)


def told_place(path: Path) -> str:
    return encode_path(os.fsencode(path))


class Records:
    """``folder``: made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[Kept]:
        """By the time they were taken. What cannot be read is left, and told."""
        return sorted(self._read(), key=lambda one: (one.taken_at, one.token))

    def _read(self) -> Iterator[Kept]:
        for path in self._folder.glob("*.json"):
            try:
                yield msgspec.json.decode(read_small(path), type=Kept)
            except FileNotFoundError:
                continue
            except (OSError, msgspec.DecodeError) as error:
                log.warning("%s, of local copies, cannot be read: %s", path, error)

    def put(self, kept: Kept) -> None:
        """Durable. OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._path(kept.token), msgspec.json.encode(kept))

    def remove(self, token: str) -> None:
        """OSError."""
        self._path(token).unlink(missing_ok=True)

    def _path(self, token: str) -> Path:
        return self._folder / f"{token}.json"
