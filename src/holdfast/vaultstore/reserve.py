"""The reserve: objects kept only to be deleted, so that a full store can be freed.

Backups never get at it: they fail with StoreFull while it is whole.
"""

from __future__ import annotations

from holdfast.errors import ObjectExistsError, StoreError, StoreFullError
from holdfast.vaultstore import layout
from holdfast.vaultstore.chain import Build
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import Header, ObjectKind, encode_header
from holdfast.vaultstore.state import LogState

PIECE_BYTES = 4 * 1024 * 1024  # [bytes] released at a time
LARGEST_PART = 10  # never more than a tenth of the room there is: a small disk is for backups


class Reserve:
    """Keeps about ``wanted_bytes`` back under ``reserve/<number>``; numbers only grow."""

    def __init__(self, core: VaultCore, wanted_bytes: int) -> None:
        self._core = core
        self._wanted = wanted_bytes

    def restore(self) -> None:
        """Fill up what is missing, as far as the store has room."""
        free = self._core.objects.free_bytes()
        if free is None:
            return
        held = list(self._core.objects.list(layout.RESERVE))
        held_bytes = sum(info.size for info in held)
        missing = min(self._wanted, (free + held_bytes) // LARGEST_PART) - held_bytes
        number = 1 + max((_number(info.key) for info in held), default=-1)
        while missing > 0:
            if not self._create(number, min(missing, PIECE_BYTES)):
                return
            missing -= PIECE_BYTES
            number += 1

    def _create(self, number: int, size: int) -> bool:
        header = encode_header(Header(ObjectKind.RESERVE, self._core.vault_id))
        try:
            filler = bytes(max(0, size - len(header)))
            self._core.objects.create(layout.reserve_key(number), header + filler)
        except ObjectExistsError:
            return True
        except StoreFullError:
            return False
        except StoreError as error:
            if error.retry == "never":
                raise
            return False
        return True


def append_freeing(core: VaultCore, build: Build, *, shared: bool = False) -> LogState:
    """Append a record that leads to free space (the end of a session, expire, condemn, sweep). On
    a full store one piece of the reserve is given up for it. ``shared``: see ``core.share``."""
    append = core.share if shared else core.append
    try:
        return append(build)
    except StoreFullError:
        piece = next(iter(core.objects.list(layout.RESERVE)), None)
        if piece is None:
            raise
        core.objects.delete(piece.key)
    return append(build)


def _number(key: str) -> int:
    digits = key[len(layout.RESERVE) :]
    return int(digits) if digits.isdigit() else 0
