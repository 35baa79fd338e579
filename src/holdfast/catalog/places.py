"""Subscriptions, resource groups, regions, and the catalog's own notes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update


@dataclass(frozen=True, slots=True)
class Note:
    """One named text the server keeps for itself (tenant id, key fingerprints)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Subscription:
    id: str
    display_name: str
    tenant_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    """``name_key`` is the name in lower case."""

    subscription_id: str
    name_key: str
    name: str
    location: str
    tags: dict[str, str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Region:
    """A set of storage sites; ``sealed_credentials`` are opaque here."""

    name_key: str
    name: str
    store_url: str
    sealed_credentials: str | None
    state: str
    properties: dict[str, Any]
    created_at: datetime
    updated_at: datetime


def get_note(connection: Connection, name: str) -> str:
    """The note's text; "" when there is none."""
    found = one(connection, Note, selecting(t.meta, Note).where(t.meta.c.name == name))
    return found.value if found else ""


def set_note(connection: Connection, name: str, value: str) -> None:
    if not update(connection, t.meta, {"value": value}, t.meta.c.name == name):
        insert(connection, t.meta, Note(name, value))


def add_subscription(connection: Connection, row: Subscription) -> None:
    insert(connection, t.subscriptions, row)


def get_subscription(connection: Connection, subscription_id: str) -> Subscription | None:
    query = selecting(t.subscriptions, Subscription)
    return one(connection, Subscription, query.where(t.subscriptions.c.id == subscription_id))


def list_subscriptions(connection: Connection) -> list[Subscription]:
    query = selecting(t.subscriptions, Subscription).order_by(t.subscriptions.c.id)
    return many(connection, Subscription, query)


def add_group(connection: Connection, row: ResourceGroup) -> None:
    insert(connection, t.resource_groups, row)


def get_group(connection: Connection, subscription_id: str, name: str) -> ResourceGroup | None:
    """By name in any case."""
    groups = t.resource_groups.c
    query = selecting(t.resource_groups, ResourceGroup).where(
        groups.subscription_id == subscription_id, groups.name_key == name.lower()
    )
    return one(connection, ResourceGroup, query)


def page_groups(
    connection: Connection, subscription_id: str, *, limit: int = 100, token: str = ""
) -> Page[ResourceGroup]:
    groups = t.resource_groups.c
    query = selecting(t.resource_groups, ResourceGroup).where(
        groups.subscription_id == subscription_id
    )
    return page(connection, ResourceGroup, query, keys=[groups.name_key], limit=limit, token=token)


def change_group(connection: Connection, subscription_id: str, name: str, **values: Any) -> int:
    groups = t.resource_groups.c
    where = (groups.subscription_id == subscription_id, groups.name_key == name.lower())
    return update(connection, t.resource_groups, values, *where)


def remove_group(connection: Connection, subscription_id: str, name: str) -> int:
    groups = t.resource_groups.c
    where = (groups.subscription_id == subscription_id, groups.name_key == name.lower())
    return remove(connection, t.resource_groups, *where)


def get_region(connection: Connection, name: str) -> Region | None:
    """By name in any case."""
    query = selecting(t.regions, Region).where(t.regions.c.name_key == name.lower())
    return one(connection, Region, query)


def list_regions(connection: Connection) -> list[Region]:
    return many(connection, Region, selecting(t.regions, Region).order_by(t.regions.c.name_key))


def put_region(connection: Connection, row: Region) -> None:
    """Insert, or replace everything but ``created_at``."""
    values = {
        "name": row.name,
        "store_url": row.store_url,
        "sealed_credentials": row.sealed_credentials,
        "state": row.state,
        "properties": row.properties,
        "updated_at": row.updated_at,
    }
    if not update(connection, t.regions, values, t.regions.c.name_key == row.name_key):
        insert(connection, t.regions, row)


def remove_region(connection: Connection, name: str) -> int:
    return remove(connection, t.regions, t.regions.c.name_key == name.lower())
