"""What every use case works with: one value built by bootstrap and handed down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import new_id
from holdfast.identity.authority import Authority
from holdfast.identity.logins import Logins
from holdfast.identity.people import People
from holdfast.ports.clock import Clock, Random
from holdfast.ports.jobs import Jobs
from holdfast.ports.object_store import ObjectStore
from holdfast.services.vaults_open import VaultDesk
from holdfast.settings import Settings

OpenStore = Callable[[str, Mapping[str, str] | None], ObjectStore]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """One server's parts. ``subscription_id``, ``tenant_id``: GUIDs of this installation."""

    data: Path
    settings: Settings
    clock: Clock
    rng: Random
    catalog: Catalog
    vaults: VaultDesk
    jobs: Jobs
    authority: Authority
    logins: Logins
    people: People
    tenant_id: str
    subscription_id: str

    def new_id(self) -> str:
        return new_id(self.rng)

    def new_etag(self) -> str:
        return f'W/"{self.rng.token(8).hex()}"'

    def now(self) -> datetime:
        return self.clock.now()
