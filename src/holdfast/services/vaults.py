"""Vaults: create, change, and what ARM shows of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import places, policies, vaults
from holdfast.catalog.identifiers import id_bytes
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain import immutability
from holdfast.domain.default_policies import default_policies
from holdfast.domain.immutability import State
from holdfast.domain.names import check_vault, is_same_location
from holdfast.domain.soft_delete import SoftDelete, settings_of
from holdfast.errors import ConflictError, HoldfastError, NotFoundError, UsageError
from holdfast.jobs.erase import forget_rows
from holdfast.services import alerts
from holdfast.services.etags import check_etag
from holdfast.services.holding import hold_vault
from holdfast.services.platform import Platform
from holdfast.services.quotas import check_quota
from holdfast.services.regions import LOCAL_REGION, local_store_url
from holdfast.services.vault_bodies import (
    check_body,
    keep_lasting,
    merge,
    settle_soft_delete,
    soft_delete_of,
)
from holdfast.vaultstore.values import VaultIds, VaultOptions

Body = dict[str, Any]
PROVISIONING, ACTIVE = "Provisioning", "Active"
log = logging.getLogger(__name__)


def find_vault(connection: Connection, platform: Platform, group: str, name: str) -> VaultRow:
    """NotFoundError (ResourceGroupNotFound, ResourceNotFound)."""
    if places.get_group(connection, platform.subscription_id, group) is None:
        raise NotFoundError(
            f"Resource group '{group}' could not be found.",
            code="ResourceGroupNotFound",
            hint="name an existing resource group (-g), or create a vault in it first",
        )
    row = vaults.find_vault(connection, platform.subscription_id, group, name)
    if row is None:
        raise NotFoundError(
            f"The Resource 'Microsoft.RecoveryServices/vaults/{name}' under resource group "
            f"'{group}' was not found.",
            hint="see which exist: holdfast vault list",
        )
    return row


def get_vault(platform: Platform, group: str, name: str) -> VaultRow:
    return platform.catalog.recall(
        ("vault", group, name), lambda asked: find_vault(asked, platform, group, name)
    )


def create_vault(
    platform: Platform, group: str, name: str, body: Body, if_match: str | None = None
) -> tuple[VaultRow, bool]:
    """The vault and whether it is new. An existing one takes the body's tags and properties.
    ConflictError (InvalidResourceLocation) when it is in another location."""
    check_vault(name)
    check_body(body)
    with platform.catalog.read() as connection:
        if places.get_group(connection, platform.subscription_id, group) is None:
            raise NotFoundError(
                f"Resource group '{group}' could not be found.",
                code="ResourceGroupNotFound",
                hint="create it first: PUT the resource group",
            )
        found = vaults.find_vault(connection, platform.subscription_id, group, name)
    if found is not None and found.state == PROVISIONING:
        return _provision(platform, found), True
    location = body.get("location")
    if not isinstance(location, str) or not location:
        raise UsageError(
            "the vault's location is missing", code="LocationRequired", hint="give a location"
        )
    if found is not None:
        _check_place(found, group, location)
        return change_vault(platform, group, name, body, if_match), False
    check_etag(if_match, None, f"vault {name}")
    return _make(platform, group, name, location, body), True


def _check_place(row: VaultRow, group: str, location: str) -> None:
    """ConflictError (InvalidResourceLocation): a vault stays where it is."""
    if not is_same_location(row.location, location):
        raise ConflictError(
            f"The resource '{row.name}' already exists in location '{row.location}' in resource "
            f"group '{group}'. A resource with the same name cannot be created in location "
            f"'{location[:100]}'.",
            code="InvalidResourceLocation",
            hint=f"give location {row.location}, or make a vault of another name",
        )


def _make(platform: Platform, group: str, name: str, location: str, body: Body) -> VaultRow:
    """The row first, so that a creation that is cut off is finished by the next start; without the
    store's consent the row goes again."""
    row = _new_row(platform, group, name, location, _region_of(platform, location), body)
    settled = settle_soft_delete(row.properties, SoftDelete(), body)
    state = immutability.changed(row.immutability, immutability.asked_in(body))
    row = replace(row, properties=settled, immutability=state)
    if soft_delete_of(row) != SoftDelete() or immutability.is_immutable(state):
        row = replace(row, life_version=1)
    most = platform.settings.max_vaults
    with platform.catalog.write() as connection:
        count = len(vaults.list_vaults(connection))
        check_quota(count, most, "the limit of vaults", "max_vaults")
        vaults.add_vault(connection, row)
        for policy_name, properties in default_policies().items():
            policies.add_policy(connection, _policy_row(platform, row.id, policy_name, properties))
    try:
        return _provision(platform, row)
    except HoldfastError:
        with platform.catalog.write() as connection:
            forget_rows(connection, row)
        raise


def _provision(platform: Platform, row: VaultRow) -> VaultRow:
    """Make the vault's store and call the row active. Idempotent."""
    settings = platform.settings
    ids = VaultIds(
        vault_id=id_bytes(row.id),
        domain_id=platform.rng.token(16),
        tenant_id=id_bytes(platform.tenant_id),
        subscription_id=id_bytes(platform.subscription_id),
    )
    options = VaultOptions(
        zstd_level=settings.zstd_level,
        pack_target_bytes=settings.pack_target_bytes,
        reserve_bytes=settings.reserve_bytes,
    )
    store = platform.vaults.store(row.store_url, row.region)
    platform.vaults.create(row.id, store, ids, options)
    with platform.catalog.write() as connection:
        vaults.change_vault(connection, row.id, state=ACTIVE)
    return replace(row, state=ACTIVE)


def finish_interrupted(platform: Platform) -> None:
    """Finish vaults whose creation was cut off by the end of a server."""
    with platform.catalog.read() as connection:
        begun = [row for row in vaults.list_vaults(connection) if row.state == PROVISIONING]
    for row in begun:
        try:
            _provision(platform, row)
        except HoldfastError as error:
            log.warning("vault %s is not finished: %s", row.name, error.message)


def _region_of(platform: Platform, location: str) -> str:
    """The region of a location; an unknown location is kept and uses the default store."""
    with platform.catalog.read() as connection:
        found = places.get_region(connection, location)
    return found.name if found is not None else LOCAL_REGION


def _new_row(
    platform: Platform, group: str, name: str, location: str, region: str, body: Body
) -> VaultRow:
    now = platform.now()
    with platform.catalog.read() as connection:
        place = places.get_region(connection, region)
    url = place.store_url if place is not None else local_store_url(platform.data)
    return VaultRow(
        id=platform.new_id(),
        subscription_id=platform.subscription_id,
        group_key=group.lower(),
        name_key=name.lower(),
        name=name,
        location=location,
        region=region,
        store_url=url,
        unlock_kind="platform",
        state=PROVISIONING,
        tags=body.get("tags") or {},
        properties=_given(body),
        etag=platform.new_etag(),
        head_sequence=0,
        head_hash="",
        key_exported_at=None,
        next_maintenance_at=now + timedelta(hours=24),
        created_at=now,
        updated_at=now,
    )


def _given(body: Body) -> Body:
    """What a client said that we keep and give back."""
    kept = {"properties": body.get("properties") or {}, "sku": body.get("sku")}
    return {**kept, "identity": body.get("identity")}


def _policy_row(platform: Platform, vault_id: str, name: str, properties: Body) -> PolicyRow:
    now = platform.now()
    return PolicyRow(
        id=platform.new_id(),
        vault_id=vault_id,
        name_key=name.lower(),
        name=name,
        management_type=properties["backupManagementType"],
        properties=properties,
        etag=platform.new_etag(),
        created_at=now,
        updated_at=now,
    )


def change_vault(
    platform: Platform, group: str, name: str, body: Body, if_match: str | None = None
) -> VaultRow:
    """Merge a partial body deeply. ConflictError (PreconditionFailed) for another ETag,
    (UserErrorUnsupportedVaultImmutabilityStateChange, UserErrorVaultImmutable) for what
    immutability forbids."""
    check_body(body)
    with platform.catalog.write() as connection:
        row = hold_vault(connection, find_vault(connection, platform, group, name))
        check_etag(if_match, row.etag, f"vault {name}")
        given = {key: body[key] for key in ("properties", "sku", "identity") if body.get(key)}
        merged = keep_lasting(row.properties, merge(row.properties, given))
        merged = settle_soft_delete(merged, soft_delete_of(row), body)
        state = _immutability(row, merged, body)
        tags = body["tags"] if isinstance(body.get("tags"), dict) else row.tags
        etag, now = platform.new_etag(), platform.now()
        vaults.change_vault(
            connection,
            row.id,
            properties=merged,
            immutability=state,
            tags=tags,
            etag=etag,
            updated_at=now,
        )
        changed = replace(
            row, properties=merged, immutability=state, tags=tags, etag=etag, updated_at=now
        )
        alerts.vault_changed(platform, connection, row, changed)
        if (soft_delete_of(changed), state) != (soft_delete_of(row), row.immutability):
            vaults.note_life(connection, row.id)
    platform.jobs.wake()
    return changed


def _immutability(row: VaultRow, merged: Body, body: Body) -> State:
    """The state after a request. A vault that is immutable before and after it keeps what is
    deleted for as long as before."""
    state = immutability.changed(row.immutability, immutability.asked_in(body))
    if immutability.is_immutable(row.immutability) and immutability.is_immutable(state):
        immutability.check_soft_delete(soft_delete_of(row), settings_of(merged))
    return state


def export_key(platform: Platform, group: str, name: str, passphrase: str) -> bytes:
    """The recovery key file; from now on ``vault show`` does not warn any more."""
    row = get_vault(platform, group, name)
    data = platform.vaults.open(row.id).export_key(passphrase)
    with platform.catalog.write() as connection:
        vaults.change_vault(connection, row.id, key_exported_at=platform.now())
    return data
