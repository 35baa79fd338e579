"""Opening vaults: each once per process, from its region's store, with the platform's key."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.catalog import places, vaults
from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import id_bytes
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import (
    ConflictError,
    HoldfastError,
    NotFoundError,
    StoreError,
    UsageError,
)
from holdfast.jobs import heads
from holdfast.jobs.life_writing import take_up_lock
from holdfast.jobs.lost_points import reconcile
from holdfast.ports.clock import Clock, Random
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore.layout import DESCRIPTOR, VaultObjects
from holdfast.vaultstore.probe import probe_store
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

OpenStore = Callable[[str, Mapping[str, str] | None], ObjectStore]
MakeStore = Callable[[str, Mapping[str, str] | None], None]


def store_missing(row: VaultRow) -> NotFoundError:
    return NotFoundError(
        f"the store of vault {row.name} ({row.store_url}) does not hold it any more",
        code="VaultStoreMissing",
        hint="put the vault's folder or bucket back where it was, or bring it in from where it is "
        "now: holdfast vault import",
    )


def _mended(vault: Vault) -> bool:
    try:
        return vault.is_mended()
    except HoldfastError:  # a store that does not answer mends nothing
        return False


class VaultDesk:
    """Thread safe. ``cache_dir``: node-local caches of index tables. ``make_store`` makes several
    stores one."""

    def __init__(
        self,
        catalog: Catalog,
        platform_key: bytes,
        open_store: OpenStore,
        cache_dir: Path,
        clock: Clock,
        rng: Random,
        make_store: MakeStore = lambda _url, _credentials: None,
    ) -> None:
        self._catalog = catalog
        self._platform_key = platform_key
        self._open_store = open_store
        self._make_store = make_store
        self._cache_dir = cache_dir
        self._clock = clock
        self._rng = rng
        self._open: dict[str, Vault] = {}
        self._opening: dict[str, threading.Lock] = {}
        self._stores: dict[tuple[str, str | None], ObjectStore] = {}
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def open(self, vault_id: str) -> Vault:
        """The opened vault of a catalog id; opened anew when it is read-only and what made it so is
        mended. NotFoundError (VaultNotFound, VaultStoreMissing)."""
        with self._lock:
            found = self._open.get(vault_id)
            opening = self._opening.setdefault(vault_id, threading.Lock())
        if found is not None and not _mended(found):
            return found
        with opening:  # one vault's slow store must not hold up the others
            with self._lock:
                now = self._open.get(vault_id)
            if now is not None and now is found:
                self.forget(vault_id)
                now = None
            if now is None:
                now = self._open_row(self._row(vault_id))
                with self._lock:
                    self._open[vault_id] = now
            return now

    def _row(self, vault_id: str) -> VaultRow:
        with self._catalog.read() as connection:
            row = vaults.get_vault(connection, vault_id)
        if row is None:
            raise NotFoundError(
                f"there is no vault {vault_id}",
                code="VaultNotFound",
                hint="it was deleted meanwhile; see which exist: holdfast vault list",
            )
        return row

    def _open_row(self, row: VaultRow) -> Vault:
        try:
            opened = Vault.open(
                self.store(row.store_url, row.region),
                id_bytes(row.id),
                Unlock(platform_key=self._platform_key),
                clock=self._clock,
                rng=self._rng,
                cache_dir=self._cache_dir / row.id,
                accept_damage=True,
            )
        except NotFoundError as error:
            raise store_missing(row) from error
        heads.compare(self._catalog, opened, row)
        take_up_lock(self._catalog, opened, row)
        reconcile(self._catalog, opened, row.id, self._clock.now())
        return opened

    def store(self, url: str, region: str) -> ObjectStore:
        """The object store of an address, with its region's credentials. Opened once."""
        with self._catalog.read() as connection:
            row = places.get_region(connection, region)
        sealed = row.sealed_credentials if row is not None and row.store_url == url else None
        with self._lock:
            found = self._stores.get((url, sealed))
        if found is None:
            found = self._open_store(url, self.unseal(sealed) if sealed else None)
            with self._lock:
                found = self._stores.setdefault((url, sealed), found)
        return found

    def try_store(self, url: str, credentials: Mapping[str, str] | None) -> None:
        """Make what an address of several stores needs, open it and see that it keeps a store's
        promises. UsageError (InvalidStoreUrl, StoreUnusable), ConflictError (CopyNotEmpty,
        CopyOfAnotherSet)."""
        try:
            self._make_store(url, credentials)
            probe_store(self._open_store(url, credentials), self._rng)
        except StoreError as error:
            raise UsageError(
                f"the store {url} cannot be used: {error.message}",
                code="StoreUnusable",
                hint=error.hint or "check the address and the credentials",
            ) from error

    def is_there(self, row: VaultRow) -> bool:
        """Whether the store still holds a vault; one that is not there is opened anew next time."""
        there = self.store(row.store_url, row.region).size(f"{row.id}/{DESCRIPTOR}") is not None
        if not there:
            self.forget(row.id)
        return there

    def objects(self, vault_id: str) -> VaultObjects:
        """A vault's objects, without opening it. NotFoundError (VaultNotFound)."""
        row = self._row(vault_id)
        return VaultObjects(self.store(row.store_url, row.region), id_bytes(row.id))

    def create(
        self, vault_id: str, store: ObjectStore, ids: VaultIds, options: VaultOptions
    ) -> None:
        """Make a vault in ``store``, or finish one whose making was cut off, and keep it open."""
        with self._making:
            try:
                made = Vault.create(
                    store,
                    self._platform_key,
                    ids=ids,
                    options=options,
                    clock=self._clock,
                    rng=self._rng,
                    cache_dir=self._cache_dir / vault_id,
                )
            except ConflictError as error:
                if error.code != "VaultExists":
                    raise
                return
        with self._lock:
            self._open[vault_id] = made

    def forget(self, vault_id: str) -> None:
        """Close a vault, so that the next use opens it anew and holds it against what this one
        saw."""
        with self._lock:
            found = self._open.pop(vault_id, None)
        if found is not None:
            heads.remember(self._catalog, found, vault_id)
            found.close()

    @property
    def platform_key(self) -> bytes:
        return self._platform_key

    def seal(self, credentials: Mapping[str, str]) -> str:
        """Credentials of a region, sealed for the catalog."""
        nonce = self._rng.token(12)
        body = json.dumps(dict(credentials)).encode()
        sealed = AESGCM(self._platform_key).encrypt(nonce, body, b"region credentials")
        return base64.b64encode(nonce + sealed).decode()

    def unseal(self, sealed: str) -> dict[str, str]:
        data = base64.b64decode(sealed)
        try:
            body = AESGCM(self._platform_key).decrypt(data[:12], data[12:], b"region credentials")
        except InvalidTag as error:
            raise UsageError(
                "the region's credentials were stored under another platform key",
                code="InvalidStoreCredentials",
                hint="give them again: holdfast region create NAME --credentials FILE",
            ) from error
        found: dict[str, str] = json.loads(body)
        return found

    def close(self) -> None:
        with self._lock:
            for vault_id, vault in self._open.items():
                with suppress(HoldfastError):
                    heads.remember(self._catalog, vault, vault_id)
                vault.close()
            self._open.clear()
