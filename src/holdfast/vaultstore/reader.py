"""Reading a vault from its store and a key alone: no server, no catalog, nothing written.

A vault whose log is damaged is read up to the damage, which ``damage`` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from holdfast.errors import HoldfastError, NotFoundError, UsageError
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.descriptor import Descriptor
from holdfast.vaultstore.ids import IdKeys
from holdfast.vaultstore.layout import find_vaults
from holdfast.vaultstore.machine_keys import wrapping_key
from holdfast.vaultstore.manifest_files import FileTree
from holdfast.vaultstore.opening import open_core
from holdfast.vaultstore.points import record_of, records_of, statistics_of
from holdfast.vaultstore.recovery_key import open_recovery_key
from holdfast.vaultstore.restoring import PointReader
from holdfast.vaultstore.rings import opener_of
from holdfast.vaultstore.root import Root
from holdfast.vaultstore.values import (
    RecoveryPointRecord,
    Unlock,
    VaultStatistics,
    VerifyReport,
)
from holdfast.vaultstore.verify import verify_vault

LATEST = "latest"


class VaultReader:
    """One vault, opened for reading. Thread safe."""

    def __init__(self, core: VaultCore, descriptor: Descriptor) -> None:
        """Use ``open``."""
        self._core = core
        self.descriptor = descriptor
        self._readers: dict[str, PointReader] = {}

    @classmethod
    def open(
        cls,
        store: ObjectStore,
        unlock: Unlock,
        vault_id: bytes | None = None,
        *,
        cache_dir: Path | None = None,
    ) -> VaultReader:
        """Open by a key file (which names its vault) or a platform key.

        NotFoundError (VaultMissing), AccessError (WrongKey, WrongPassphrase), UsageError.
        """
        if vault_id is None:
            vault_id = vault_of(store, unlock)
        opener = opener_of(unlock, vault_id)
        return cls(
            *open_core(store, vault_id, opener, None, cache_dir=cache_dir, accept_damage=True)
        )

    @property
    def damage(self) -> HoldfastError | None:
        """The first damaged log record, or None."""
        return self._core.chain.damage

    @property
    def id_keys(self) -> IdKeys:
        """The keys that name chunks and files' contents."""
        return self._core.id_keys

    def items(self) -> list[str]:
        """Keys of the items that have recovery points."""
        return sorted(self._core.state.by_item)

    def recovery_points(self, item_key: str | None = None) -> list[RecoveryPointRecord]:
        """Live points in log order, of one item or of all."""
        return records_of(self._core.state, item_key)

    def recovery_point(self, rp_id: str, item_key: str | None = None) -> RecoveryPointRecord:
        """One point; ``latest`` with an item is its newest. NotFoundError."""
        if rp_id == LATEST:
            rp_id = self._core.state.newest(item_key or "")
        return record_of(self._core.point(rp_id))

    def root(self, rp_id: str) -> Root:
        return self._reader(rp_id).root()

    def file_tree(self, rp_id: str) -> FileTree:
        """A reader over a point's file tree."""
        return self._reader(rp_id).file_tree()

    def fetch(self, rp_id: str, ids: Sequence[bytes]) -> list[Buffer]:
        """Plain bytes of chunks of a point, verified, in the order asked. IntegrityError
        (ChunkLost)."""
        return self._reader(rp_id).fetch(ids)

    def keys_key(self, rp_id: str) -> bytes:
        """What unwraps the machine keys of a point."""
        made_by = self._core.point(rp_id).op.session_id
        return wrapping_key(self._core.session_key(made_by))

    def verify(self) -> VerifyReport:
        """As ``Vault.verify``, of everything."""
        return verify_vault(self._core, None, lambda _done, _total: None, lambda: False)

    def statistics(self) -> VaultStatistics:
        return statistics_of(self._core)

    def _reader(self, rp_id: str) -> PointReader:
        with self._core.lock:
            found = self._readers.get(rp_id)
            if found is None:
                found = PointReader(self._core, self._core.point(rp_id))
                self._readers[rp_id] = found
            return found


def vault_of(store: ObjectStore, unlock: Unlock) -> bytes:
    """The vault an unlock is for: the key file's, or the only one in the store."""
    if unlock.key_file is not None and unlock.passphrase is not None:
        return open_recovery_key(unlock.key_file, unlock.passphrase)[0]
    vaults = find_vaults(store)
    if len(vaults) == 1:
        return vaults[0]
    if not vaults:
        raise NotFoundError(
            "there is no vault in this store",
            code="VaultMissing",
            hint="Give the folder that holds the vault's folder.",
        )
    raise UsageError(f"the store holds {len(vaults)} vaults; say which one")
