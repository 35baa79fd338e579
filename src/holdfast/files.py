"""Writing small files so that a crash leaves the old one or the new one, never half."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE = 0o600


def write_whole(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Write aside, sync, rename, sync the folder."""
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    staged.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
