"""The reserve: objects kept only to be deleted, so that collect can write on a full store."""

from __future__ import annotations

from holdfast.errors import ObjectExistsError, StoreError, StoreFullError
from holdfast.vaultstore import layout
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import Header, ObjectKind, encode_header

PIECE_BYTES = 4 * 1024 * 1024  # [bytes] released at a time


class Reserve:
    """Keeps about ``wanted_bytes`` back under ``reserve/<number>``; numbers only grow."""

    def __init__(self, core: VaultCore, wanted_bytes: int) -> None:
        self._core = core
        self._wanted = wanted_bytes

    def restore(self) -> None:
        """Fill up what is missing, as far as the store has room."""
        if self._core.objects.free_bytes() is None:
            return
        held = list(self._core.objects.list(layout.RESERVE))
        missing = self._wanted - sum(info.size for info in held)
        number = 1 + max((_number(info.key) for info in held), default=-1)
        while missing > 0:
            if not self._create(number, min(missing, PIECE_BYTES)):
                return
            missing -= PIECE_BYTES
            number += 1

    def release(self) -> bool:
        """Delete one piece; False when there is none."""
        for info in self._core.objects.list(layout.RESERVE):
            self._core.objects.delete(info.key)
            return True
        return False

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


def _number(key: str) -> int:
    digits = key[len(layout.RESERVE) :]
    return int(digits) if digits.isdigit() else 0
