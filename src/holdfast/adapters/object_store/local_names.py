"""Names of a local store that were seen, and whether they last.

A name may be there and its folder not synced yet: another process, or another thread, is between
the two, its sync failed, or it was killed there. Who decides something on what it reads under such
a name (the record after it, a pack taken over, an answer to a job) would lose it to a power cut. So
a name this process did not make is told only after its folder was synced since the name appeared.

A folder's time of change tells that nothing appeared since: it is remembered with the sync. A
folder that changed a moment ago may change again under the same time, so that one is not.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from holdfast.adapters.object_store.local_disk import FORBIDDEN

CALM_NS = 2_500_000_000  # file systems count time in steps of up to two seconds
MOST_NAMES = 20_000
NOT_SYNCED = (*FORBIDDEN, errno.EINVAL, errno.ENOTSUP)  # by this process, or on this file system


class LastingNames:
    """Of one store. ``sync`` makes the names of a folder last."""

    def __init__(self, sync: Callable[[Path], None]) -> None:
        self._sync = sync
        self._known: set[Path] = set()
        self._changed: dict[Path, int] = {}  # folders and their time of change when synced

    def lasts(self, path: Path) -> None:
        """This name is known to last."""
        if len(self._known) >= MOST_NAMES:
            self._known.clear()
        self._known.add(path)

    def seen(self, path: Path) -> None:
        """Make a name last that was there just now, before anybody is told. OSError when that
        fails; a folder that may not be synced, as of a store to read from, is taken as it is."""
        if path in self._known:
            return
        try:
            self._settle(path.parent)
        except OSError as error:
            if error.errno not in NOT_SYNCED:
                raise
        self.lasts(path)

    def _settle(self, folder: Path) -> None:
        now = time.time_ns()
        changed = os.stat(folder).st_mtime_ns
        if self._changed.get(folder) == changed:
            return
        self._changed.pop(folder, None)
        self._sync(folder)
        if now - changed > CALM_NS:
            self._changed[folder] = changed

    def gone(self, path: Path) -> None:
        """The name was taken away."""
        self._known.discard(path)
