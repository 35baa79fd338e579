"""Heads of vaults' logs that the agent was given: it is a witness, away from server and store.

The agent cannot make a head up nor read much from it; it keeps the newest of each vault and brings
them all when it opens a session.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import msgspec

from holdfast.files import read_small, write_whole
from holdfast.vaultstore.head import unchecked_head

log = logging.getLogger("holdfast.agent")
MOST_VAULTS = 16
_DECODER = msgspec.msgpack.Decoder(dict[bytes, bytes])


class HeadKeeper:
    """The file of heads, by vault id. Thread safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def all(self) -> list[bytes]:
        """What was kept, of every vault. A file that is lost or damaged witnesses nothing."""
        with self._lock:
            return list(self._load().values())

    def keep(self, vault_id: bytes, token: bytes) -> None:
        """Keep a head unless a newer one of the vault is kept. One that cannot be written is
        worth a warning, not a backup."""
        given = unchecked_head(token)
        if given is None:
            return
        with self._lock:
            kept = self._load()
            before = unchecked_head(kept.pop(vault_id, b""))
            if before is not None and not given.is_newer_than(before):
                return
            kept[vault_id] = token
            newest = dict(list(kept.items())[-MOST_VAULTS:])
            try:
                write_whole(self._path, msgspec.msgpack.encode(newest))
            except OSError as error:
                log.warning("the head of the vault's log is not kept: %s", error)

    def _load(self) -> dict[bytes, bytes]:
        try:
            return _DECODER.decode(read_small(self._path))
        except (OSError, msgspec.MsgspecError):
            return {}
