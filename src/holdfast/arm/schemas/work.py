"""Machines, items, backups, restores; and what is ours alone."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from holdfast.arm.schemas.kinds import (
    AnyCount,
    AnyCounts,
    AnyHours,
    AnyMap,
    AnyText,
    AnyTexts,
    BackupKind,
    Id,
    ItemKind,
    ItemState,
    Management,
    Moment,
    Shape,
    Text,
    Workload,
)


class FilesAsked(Shape):
    """What an item is made of. ``consistency``: of a virtual machine, ``{"wish", "atLeast"}``."""

    include_paths: AnyTexts = None
    exclude_globs: AnyTexts = None
    throttle_bytes_per_second: AnyCount = None
    work_hours: AnyHours = None
    consistency: AnyHours = None


class ItemProperties(Shape):
    protected_item_type: ItemKind | None = None
    backup_management_type: Management | None = None
    workload_type: Workload | None = None
    policy_id: Id | None = None
    source_resource_id: Id | None = None
    protection_state: ItemState | None = None
    is_rehydrate: bool | None = None
    is_scheduled_for_deferred_delete: bool | None = None
    resource_guard_operation_requests: list[Id] | None = None
    extended_properties: AnyHours = None
    holdfast: FilesAsked | None = None


class ItemAsked(Shape):
    tags: dict[str, Any] | None = None
    properties: ItemProperties | None = None


class BackupProperties(Shape):
    object_type: BackupKind | None = None
    recovery_point_expiry_time: Moment | None = msgspec.field(
        default=None, name="recoveryPointExpiryTimeInUTC"
    )


class BackupAsked(Shape):
    properties: BackupProperties | None = None


class DiskKeys(Shape):
    encryption_enabled: bool | None = None
    kek_url: Id | None = None
    secret_key_url: Id | None = None
    kek_vault_id: Id | None = None
    secret_key_vault_id: Id | None = None


class IdentityUsed(Shape):
    is_system_assigned_identity: bool | None = None
    managed_identity_resource_id: Id | None = None


class AccountOfIdentity(Shape):
    object_type: Text | None = None
    target_storage_account_id: Id | None = None


class DiskAccess(Shape):
    target_disk_network_access_option: (
        Literal[
            "SameAsOnSourceDisks", "EnablePrivateAccessForAllDisks",
            "EnablePublicAccessForAllDisks",
        ]
        | None
    ) = None  # fmt: skip
    target_disk_access_id: Id | None = None


class RestoreProperties(Shape):
    """Of files, and of a virtual machine as Azure's ``IaasVMRestoreRequest``."""

    object_type: Text | None = None
    recovery_type: AnyText = None
    target_container_name: Text | None = None
    target_directory: AnyText = None
    paths: AnyTexts = None
    conflict: AnyText = None
    dry_run: bool | None = None
    storage_account_id: Id | None = None
    source_resource_id: Id | None = None
    target_virtual_machine_id: Id | None = None
    target_resource_group_id: Id | None = None
    restore_disk_lun_list: AnyCounts = None
    recovery_point_id: Text | None = None
    virtual_network_id: Id | None = None
    subnet_id: Id | None = None
    target_domain_name_id: Id | None = None
    region: Text | None = None
    affinity_group: Text | None = None
    create_new_cloud_service: bool | None = None
    original_storage_account_option: bool | None = None
    restore_with_managed_disks: bool | None = None
    disk_encryption_set_id: Id | None = None
    zones: list[Text] | None = None
    encryption_details: DiskKeys | None = None
    identity_info: IdentityUsed | None = None
    identity_based_restore_details: AccountOfIdentity | None = None
    target_disk_network_access_settings: DiskAccess | None = None
    holdfast: AnyHours = None


class InstantProperties(Shape):
    """``name``: of the machine that is started; ``container``: the host, when not its own."""

    recovery_point_id: Text | None = None
    name: Text | None = None
    container: Text | None = None


class InstantAsked(Shape):
    properties: InstantProperties | None = None


class MoveProperties(Shape):
    storage_account_id: Id | None = None


class MoveAsked(Shape):
    properties: MoveProperties | None = None


class TestProperties(Shape):
    """``script``: for the guest's shell; ``timeoutSeconds``: for the guest to come up, and again
    for the script."""

    recovery_point_id: Text | None = None
    script: AnyText = None
    timeout_seconds: AnyCount = None
    container: Text | None = None


class TestAsked(Shape):
    properties: TestProperties | None = None


class ListFilesProperties(Shape):
    path: AnyText = None
    skip_token: AnyText = None
    top: AnyCount = None
    target_container_name: Text | None = None


class ListFilesAsked(Shape):
    properties: ListFilesProperties | None = None


class RestoreFilesProperties(Shape):
    target_directory: AnyText = None
    paths: AnyTexts = None
    conflict: AnyText = None
    target_container_name: Text | None = None


class RestoreFilesAsked(Shape):
    properties: RestoreFilesProperties | None = None


class ProvisionProperties(Shape):
    object_type: Text | None = None
    recovery_point_id: Text | None = None
    virtual_machine_id: Id | None = None
    initiator_name: Text | None = None
    renew_existing_registration: bool | None = None


class ProvisionAsked(Shape):
    properties: ProvisionProperties | None = None


class ScriptAsked(Shape):
    provision_instant_item_recovery_operation_id: Text | None = None


class AccountFolder(Shape):
    vault_id: Id | None = None
    container: Text | None = None
    path: Text | None = None


class AccountProperties(Shape):
    holdfast: AccountFolder | None = None


class AccountAsked(Shape):
    location: Text | None = None
    kind: Text | None = None
    sku: AnyHours = None
    tags: AnyMap = None
    properties: AccountProperties | None = None


class RestoreAsked(Shape):
    properties: RestoreProperties | None = None


class ContainerAsked(Shape):
    properties: dict[str, Any] | None = None


class RoleProperties(Shape):
    role_definition_id: Id | None = None
    principal_id: Text | None = None
    principal_type: Text | None = None
    description: Text | None = None


class RoleAsked(Shape):
    properties: RoleProperties | None = None


class RegionProperties(Shape):
    store: AnyText = None
    credentials: AnyMap = None


class DiskProperties(Shape):
    store: AnyText = None
    accept_loss: bool | None = None


class DiskAsked(Shape):
    properties: DiskProperties | None = None


class RegionAsked(Shape):
    properties: RegionProperties | None = None


class CredentialsProperties(Shape):
    expires_in_seconds: AnyCount = None


class CredentialsAsked(Shape):
    properties: CredentialsProperties | None = None


class KeyProperties(Shape):
    passphrase: AnyText = None


class KeyAsked(Shape):
    properties: KeyProperties | None = None


class ImportProperties(Shape):
    key_file: str | None = None
    store_url: Id | None = None
    path: Text | None = None
    passphrase: Text | None = None
    name: Text | None = None
    location: Text | None = None


class ImportAsked(Shape):
    properties: ImportProperties | None = None


class UpkeepProperties(Shape):
    plan_only: bool | None = None


class UpkeepAsked(Shape):
    properties: UpkeepProperties | None = None


class Nothing(Shape):
    """An object whose content does not matter."""
