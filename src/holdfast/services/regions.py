"""Regions: where vaults put their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from holdfast.catalog import places, vaults
from holdfast.catalog.places import Region
from holdfast.domain.names import check_region
from holdfast.errors import ConflictError, NotFoundError
from holdfast.ports.copied_store import addresses_of

if TYPE_CHECKING:
    from holdfast.services.platform import Platform

LOCAL_REGION = "local"


def local_store_url(data: Path) -> str:
    """Where region ``local`` lies: DIR/vaults."""
    return (data / "vaults").resolve().as_uri()


def put_region(
    platform: Platform, name: str, store_url: str, credentials: Mapping[str, str] | None
) -> Region:
    """Create or change a region; its store is opened once to see that it answers. Several
    addresses with a space between them are one store with a copy in each.

    ConflictError (RegionInUse) for another store while vaults lie there, and for a copy in what is
    the whole store of another region or vault."""
    check_region(name)
    _check_free(platform, name, store_url)
    platform.vaults.try_store(store_url, credentials)
    now = platform.now()
    with platform.catalog.write() as connection:
        old = _check_same(platform, connection, name, store_url)
        sealed = platform.vaults.seal(credentials) if credentials else None
        row = Region(
            name_key=name.lower(),
            name=name,
            store_url=store_url,
            sealed_credentials=sealed,
            state="Active",
            properties={},
            created_at=old.created_at if old else now,
            updated_at=now,
        )
        places.put_region(connection, row)
        return row


def _check_same(
    platform: Platform, connection: Connection, name: str, store_url: str
) -> Region | None:
    """The region as it is. ConflictError (RegionInUse) for another store than its vaults have."""
    old = places.get_region(connection, name)
    if old is not None and old.store_url != store_url and _used(platform, name):
        raise ConflictError(
            f"vaults lie in region {name}; its store cannot be changed",
            code="RegionInUse",
            hint="create another region, or import the vaults from where they are now",
        )
    return old


def _check_free(platform: Platform, name: str, store_url: str) -> None:
    """Before several stores are made one: nobody may go on writing to one of them alone."""
    found = addresses_of(store_url)
    several = {one.rstrip("/") for one in found} if len(found) > 1 else set()
    with platform.catalog.read() as connection:
        _check_same(platform, connection, name, store_url)
        rows = [*vaults.list_vaults(connection), *vaults.deleted_vaults(connection)]
        regions = places.list_regions(connection)
    urls = [row.store_url for row in rows]
    urls += [row.store_url for row in regions if row.name_key != name.lower()]
    for url in urls:
        if url.rstrip("/") in several:
            raise ConflictError(
                f"{url} is the store of another region or vault; it cannot be a copy of this one",
                code="RegionInUse",
                hint="give a folder of its own",
            )


def _used(platform: Platform, name: str) -> bool:
    with platform.catalog.read() as connection:
        held = [*vaults.list_vaults(connection), *vaults.deleted_vaults(connection)]
    return any(row.region.lower() == name.lower() for row in held)


def get_region(platform: Platform, name: str) -> Region:
    """NotFoundError (RegionNotFound)."""
    with platform.catalog.read() as connection:
        row = places.get_region(connection, name)
    if row is None:
        raise NotFoundError(
            f"there is no region {name}", code="RegionNotFound", hint="holdfast region list"
        )
    return row


def list_regions(platform: Platform) -> list[Region]:
    with platform.catalog.read() as connection:
        return places.list_regions(connection)


def remove_region(platform: Platform, name: str) -> None:
    """ConflictError (RegionInUse) while vaults lie there, and for ``local``."""
    row = get_region(platform, name)
    if _used(platform, name) or row.name_key == LOCAL_REGION:
        raise ConflictError(
            f"region {row.name} is in use", code="RegionInUse", hint="delete its vaults first"
        )
    with platform.catalog.write() as connection:
        places.remove_region(connection, name)


def ensure_local(platform: Platform) -> None:
    """Region ``local`` exists from the first start on."""
    with platform.catalog.read() as connection:
        found = places.get_region(connection, LOCAL_REGION)
    if found is None:
        put_region(platform, LOCAL_REGION, local_store_url(platform.data), None)
