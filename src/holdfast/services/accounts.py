"""Storage accounts: folders of hosts, named so that clients can restore into them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from holdfast.catalog import accounts, containers, places, vaults
from holdfast.catalog.accounts import AccountRow
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.path_text import decode_path, encode_path
from holdfast.errors import ConflictError, NotFoundError, UsageError
from holdfast.services.items import find_container
from holdfast.services.platform import Platform

STORAGE = "Microsoft.Storage/storageAccounts"
_NAME = re.compile(r"[a-z0-9]{3,24}")


@dataclass(frozen=True, slots=True)
class AccountAsked:
    """``host``: the container whose folder ``path`` is."""

    host: str
    path: str
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account with its host and that host's vault."""

    row: AccountRow
    host: ContainerRow
    vault: VaultRow


def view_account(connection: Connection, row: AccountRow) -> AccountView | None:
    """None while its host's vault is deleted."""
    host = containers.get_container(connection, row.container_id)
    vault = vaults.get_vault(connection, host.vault_id) if host is not None else None
    if host is None or vault is None or vault.deleted_at is not None:
        return None
    return AccountView(row, host, vault)


def find_account(connection: Connection, subscription: str, group: str, name: str) -> AccountView:
    """NotFoundError (ResourceNotFound)."""
    row = accounts.find_account(connection, subscription, group, name)
    view = view_account(connection, row) if row is not None else None
    if view is None:
        raise NotFoundError(
            f"The Resource '{STORAGE}/{name}' under resource group '{group}' was not found.",
            hint="see which folders are named: holdfast storage-account list",
        )
    return view


def account_of_id(connection: Connection, subscription: str, resource: str) -> AccountView:
    """By ARM id in any case. UsageError (InvalidStorageAccount), NotFoundError
    (ResourceNotFound)."""
    parts = [part for part in resource.split("/") if part]
    kind = "/".join(parts[5:7]).lower()
    if len(parts) != 8 or kind != STORAGE.lower() or parts[1].lower() != subscription:
        raise UsageError(
            f"{resource[:300]!r} is no id of a storage account",
            code="InvalidStorageAccount",
            hint=f"give /subscriptions/ID/resourceGroups/GROUP/providers/{STORAGE}/NAME",
        )
    return find_account(connection, subscription, parts[3], parts[7])


def put_account(
    platform: Platform, vault: VaultRow, group: str, name: str, asked: AccountAsked
) -> AccountView:
    """Name a folder of a host, or change which of its folders is meant. UsageError
    (AccountNameInvalid, InvalidTarget), NotFoundError (ContainerNotFound, ResourceGroupNotFound),
    ConflictError (StorageAccountAlreadyTaken) for a name that another host has."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:100]!r} is no name for a storage account",
            code="AccountNameInvalid",
            hint="3 to 24 small letters and digits",
        )
    path, now = _folder(asked.path), platform.now()
    owner = platform.subscription_id
    with platform.catalog.write() as connection:
        if places.get_group(connection, owner, group) is None:
            raise NotFoundError(
                f"Resource group '{group}' could not be found.",
                code="ResourceGroupNotFound",
                hint="create it first: PUT the resource group",
            )
        host = find_container(connection, vault, asked.host)
        old = accounts.find_account(connection, owner, group, name)
        if old is not None and old.container_id != host.id:
            raise ConflictError(
                f"storage account {name} is a folder of another host",
                code="StorageAccountAlreadyTaken",
                hint="choose another name; see: holdfast storage-account list",
            )
        if old is not None:
            accounts.change_account(connection, old.id, path, asked.tags, now)
            row = replace(old, path=path, tags=asked.tags, updated_at=now)
        else:
            row = AccountRow(
                id=platform.new_id(),
                subscription_id=owner,
                group_key=group.lower(),
                name_key=name,
                name=name,
                container_id=host.id,
                path=path,
                tags=asked.tags,
                created_at=now,
                updated_at=now,
            )
            accounts.add_account(connection, row)
    return AccountView(row, host, vault)


def _folder(text: str) -> str:
    path = decode_path(text)
    if not path.startswith(b"/") or os.path.normpath(path) == b"/" or b"\0" in path:
        raise UsageError(
            f"{text[:300]!r} is no folder of a host",
            code="InvalidTarget",
            hint="give an absolute path: --path /srv/restored",
        )
    return encode_path(os.path.normpath(path))


def remove_account(platform: Platform, group: str, name: str) -> bool:
    """Forget the name; the folder and what is in it stay. False when there was none."""
    with platform.catalog.write() as connection:
        row = accounts.find_account(connection, platform.subscription_id, group, name)
        if row is None:
            return False
        accounts.remove_account(connection, row.id)
        return True
