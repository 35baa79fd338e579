"""How far a restore of disks into a folder got: a hidden file in it until all is there."""

from __future__ import annotations

from pathlib import Path

import msgspec

from holdfast.files import read_small, write_whole


class _State(msgspec.Struct):
    """``done``: bytes of data written, by the number of a disk that is there as a whole. ``at``: a
    disk that is there up to ``reached``."""

    done: dict[int, int] = {}
    at: int | None = None
    reached: int = 0
    written: int = 0


class DisksJournal:
    """Written when a disk ends and when a restore is stopped. One that cannot be read is as none:
    the disks are written anew."""

    def __init__(self, path: Path, state: _State) -> None:
        self._path, self._state = path, state

    @classmethod
    def load(cls, path: Path) -> DisksJournal:
        try:
            return cls(path, msgspec.json.decode(read_small(path), type=_State))
        except (OSError, msgspec.MsgspecError):
            return cls(path, _State())

    @property
    def done(self) -> dict[int, int]:
        return self._state.done

    def reached(self, lun: int) -> tuple[int, int]:
        """(bytes of the disk that are there, bytes of data written for them)."""
        state = self._state
        return (state.reached, state.written) if state.at == lun else (0, 0)

    def end(self, lun: int, written: int) -> None:
        self._save(_State(done={**self.done, lun: written}))

    def stop(self, lun: int, reached: int, written: int) -> None:
        self._save(_State(done=self.done, at=lun, reached=reached, written=written))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _save(self, state: _State) -> None:
        write_whole(self._path, msgspec.json.encode(state))
        self._state = state
