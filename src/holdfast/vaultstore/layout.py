"""Names of a vault's objects, and a store narrowed to one vault.

All names are below ``{vault guid}/``; none is ever reused or overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from holdfast.crashpoint import reach
from holdfast.errors import NotFoundError
from holdfast.ports.copied_store import copied
from holdfast.ports.object_store import Buffer, ObjectInfo, ObjectStore, StoreTraits, Upload

DESCRIPTOR = "descriptor"
LOG = "log/"
PACKS = "packs/"
TABLES = "tables/"
REFSETS = "refsets/"
SESSIONS = "sessions/"
RESERVE = "reserve/"
PROBE = "probe/"
LIFE = "life/"
HEALTH = "health/"
KEYRING = "keyring/"
CHECKPOINTS = "checkpoints/"
QUARANTINE = "quarantine/"  # what a person gave up; never read, never deleted


def log_key(sequence: int) -> str:
    return numbered_key(LOG, sequence)


def log_sequence(key: str) -> int | None:
    """The number of a log key, or None when it is none."""
    return number_below(LOG, key)


def numbered_key(room: str, number: int) -> str:
    return f"{room}{number:016d}"


def checkpoint_key(sequence: int) -> str:
    return numbered_key(CHECKPOINTS, sequence)


def checkpoint_sequence(key: str) -> int | None:
    """The number of a checkpoint key, or None when it is none."""
    return number_below(CHECKPOINTS, key)


def number_below(room: str, key: str) -> int | None:
    """The number of a key that ``numbered_key`` made, or None when it is none."""
    digits = key[len(room) :]
    return int(digits) if key.startswith(room) and len(digits) == 16 and digits.isdigit() else None


def pack_key(session_id: bytes, pack_id: bytes) -> str:
    return f"{PACKS}{session_id.hex()}/{pack_id.hex()}"


def table_key(table_id: bytes) -> str:
    return f"{TABLES}{table_id.hex()}"


def refset_key(name: str) -> str:
    return f"{REFSETS}{name}"


def session_key(session_id: bytes) -> str:
    return f"{SESSIONS}{session_id.hex()}"


def reserve_key(number: int) -> str:
    return f"{RESERVE}{number}"


def vault_prefix(vault_id: bytes) -> str:
    return f"{UUID(bytes=vault_id)}/"


def find_vaults(store: ObjectStore) -> list[bytes]:
    """Ids of the vaults in a store: folders named by a GUID that hold a descriptor."""
    found: list[bytes] = []
    after = ""
    while (first := next(iter(store.list("", after)), None)) is not None:
        folder = first.key.partition("/")[0]
        try:
            vault_id = UUID(folder).bytes
        except ValueError:
            vault_id = b""
        if vault_id and store.size(vault_prefix(vault_id) + DESCRIPTOR) is not None:
            found.append(vault_id)
        after = f"{folder}/\x7f" if "/" in first.key else first.key
    return found


class VaultObjects:
    """An object store seen from inside one vault's folder.

    ``whole``: the vault exists, so whatever is written needs its descriptor to be there: a folder
    that was moved, or an empty mount point, takes nothing."""

    def __init__(self, store: ObjectStore, vault_id: bytes, *, whole: bool = False) -> None:
        self._store = store
        self._vault_id = vault_id
        self._prefix = vault_prefix(vault_id)
        self._whole = whole

    def require_vault(self) -> None:
        """NotFoundError (VaultStoreMissing) when the vault is not where it was."""
        if self._whole and self.size(DESCRIPTOR) is None:
            raise NotFoundError(
                f"the store does not hold vault {self._prefix.rstrip('/')} any more",
                code="VaultStoreMissing",
                hint="Nothing was written. Put the vault's folder or bucket back where it was, or "
                "mount its disk, and try again.",
            )

    def thorough(self) -> VaultObjects:
        """The same objects, of which each read compares all copies where there are several."""
        several = copied(self._store)
        if several is None:
            return self
        return VaultObjects(several.thorough(), self._vault_id, whole=self._whole)

    @property
    def traits(self) -> StoreTraits:
        return self._store.traits

    def create(self, key: str, data: Buffer) -> None:
        self.require_vault()
        reach(f"vault.create.{_room(key)}.before")
        self._store.create(self._prefix + key, data)
        reach(f"vault.create.{_room(key)}.after")

    def upload(self, key: str) -> Upload:
        self.require_vault()
        return self._store.upload(self._prefix + key)

    def read(self, key: str) -> bytes:
        return self._store.read(self._prefix + key)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self._store.read_range(self._prefix + key, offset, length)

    def size(self, key: str) -> int | None:
        return self._store.size(self._prefix + key)

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        start = len(self._prefix)
        absolute = self._prefix + after if after else ""
        for info in self._store.list(self._prefix + prefix, absolute):
            yield ObjectInfo(info.key[start:], info.size)

    def delete(self, key: str) -> None:
        reach(f"vault.delete.{_room(key)}.before")
        self._store.delete(self._prefix + key)
        reach(f"vault.delete.{_room(key)}.after")

    def free_bytes(self) -> int | None:
        return self._store.free_bytes()


def _room(key: str) -> str:
    """The folder of an object: what a recovery test calls the place where it kills."""
    return key.partition("/")[0]
