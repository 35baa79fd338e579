"""When a restore has a writer process: once there are many small files, while it lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from holdfast.vaultstore.ids import IdKeys
from holdfast.workloads.files.restore_writer import Owners
from holdfast.workloads.files.writer_process import WriterProcess

log = logging.getLogger(__name__)
MANY_FILES = 4000


class WriterHelper:
    """Thread safe. ``top``, ``owners``, ``token``, ``keys``, ``held``: see WriterProcess. With
    ``wanted`` False there is never one."""

    def __init__(
        self,
        top: int,
        owners: Owners,
        token: bytes,
        keys: IdKeys,
        held: Sequence[int] = (),
        *,
        wanted: bool = True,
    ) -> None:
        self._made_of = (top, owners, token, keys, held)
        self._lock = threading.Lock()
        self._alone = not wanted
        self._seen = 0
        self._process: WriterProcess | None = None

    def for_files(self, count: int) -> WriterProcess | None:
        """The process, when it is worth while for ``count`` more small files."""
        if self._alone:
            return None
        with self._lock:
            self._seen += count
            if self._process is None and self._seen >= MANY_FILES and not self._alone:
                try:
                    self._process = WriterProcess(*self._made_of)
                except OSError as error:
                    log.warning("no writer process can be started: %s", error)
                    self._alone = True
            return None if self._alone else self._process

    def lost(self, why: object) -> None:
        """The process answers no more; the restore goes on without. When this returns it has ended
        and writes nothing any more."""
        with self._lock:
            process = self._process
            if not self._alone:
                self._alone = True
                log.warning("the writer process is lost (%s); writing goes on without", why)
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process; nobody may be using it."""
        if self._process is not None:
            self._process.close()
