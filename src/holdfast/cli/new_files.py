"""Files with secrets that a command writes: checked before the secret exists."""

from __future__ import annotations

from pathlib import Path

from holdfast.errors import ConflictError
from holdfast.files import write_whole

ROOM = 16 * 1024  # more than any of them takes


def check_new(target: Path, holds: str) -> None:
    """What is made once must find its place: nothing of that name, and a folder that takes it.
    ConflictError (FileExists), OSError. ``holds``: what a file of that name may hold."""
    if target.exists() or target.is_symlink():
        raise ConflictError(
            f"{target} exists and may hold {holds}",
            code="FileExists",
            hint="name a new file, or move this one away",
        )
    write_whole(target, bytes(ROOM))
    target.unlink()
