"""Resource groups, vaults, and their standing configuration."""

from __future__ import annotations

from typing import Any, Literal

from holdfast.arm.schemas.kinds import (
    AnyCount,
    Id,
    Name,
    Shape,
    SoftDelete,
    Storage,
    Switch,
    Tags,
    Text,
)


class GroupAsked(Shape):
    location: Name | None = None
    tags: Tags | None = None
    managed_by: Id | None = None


class Sku(Shape):
    name: Literal["Standard", "RS0"]
    tier: Text | None = None
    family: Text | None = None
    size: Text | None = None
    capacity: Any = None


class UserIdentity(Shape):
    principal_id: Text | None = None
    client_id: Text | None = None


class Identity(Shape):
    """az writes its kind in small letters."""

    type: Literal[
        "SystemAssigned", "None", "UserAssigned", "SystemAssigned, UserAssigned",
        "systemassigned", "none", "userassigned", "systemassigned, userassigned",
        "systemassigned,userassigned",
    ]  # fmt: skip
    principal_id: Text | None = None
    tenant_id: Text | None = None
    user_assigned_identities: dict[Id, UserIdentity | None] | None = None


class AzureAlerts(Shape):
    alerts_for_all_job_failures: Switch | None = None
    alerts_for_all_replication_issues: Switch | None = None
    alerts_for_all_failover_issues: Switch | None = None


class ClassicAlerts(Shape):
    alerts_for_critical_operations: Switch | None = None
    email_notifications_for_site_recovery: Switch | None = None


class Monitoring(Shape):
    azure_monitor_alert_settings: AzureAlerts | None = None
    classic_alert_settings: ClassicAlerts | None = None


class Immutability(Shape):
    state: Literal["Disabled", "Unlocked", "Locked"] | None = None


class SoftDeleting(Shape):
    soft_delete_state: SoftDelete | None = None
    soft_delete_retention_period_in_days: AnyCount = None
    enhanced_security_state: SoftDelete | None = None


class Security(Shape):
    immutability_settings: Immutability | None = None
    soft_delete_settings: SoftDeleting | None = None
    multi_user_authorization: Literal["Invalid", "Enabled", "Disabled"] | None = None


class Redundancy(Shape):
    standard_tier_storage_redundancy: Storage | None = None
    cross_region_restore: Switch | None = None


class CrossSubscription(Shape):
    cross_subscription_restore_state: (
        Literal["Enabled", "Disabled", "PermanentlyDisabled"] | None
    ) = None


class Restoring(Shape):
    cross_subscription_restore_settings: CrossSubscription | None = None


class CostManagement(Shape):
    granularity_level: Text | None = None


class KeyVault(Shape):
    key_uri: Id | None = None


class KeyIdentity(Shape):
    use_system_assigned_identity: bool | None = None
    user_assigned_identity: Id | None = None


class Encryption(Shape):
    key_vault_properties: KeyVault | None = None
    kek_identity: KeyIdentity | None = None
    infrastructure_encryption: Switch | None = None


class VaultProperties(Shape):
    public_network_access: Switch | None = None
    monitoring_settings: Monitoring | None = None
    security_settings: Security | None = None
    redundancy_settings: Redundancy | None = None
    restore_settings: Restoring | None = None
    cost_management_settings: CostManagement | None = None
    encryption: Encryption | None = None
    resource_guard_operation_requests: list[Id] | None = None


class VaultAsked(Shape):
    """``location`` is needed for a new vault; a PATCH may leave out everything."""

    location: Name | None = None
    tags: Tags | None = None
    sku: Sku | None = None
    identity: Identity | None = None
    properties: VaultProperties | None = None


class ConfigProperties(Shape):
    enhanced_security_state: SoftDelete | None = None
    soft_delete_feature_state: SoftDelete | None = None
    soft_delete_retention_period_in_days: AnyCount = None
    is_soft_delete_feature_state_editable: bool | None = None
    storage_model_type: Storage | None = None
    storage_type: Storage | None = None
    storage_type_state: Literal["Invalid", "Locked", "Unlocked"] | None = None
    resource_guard_operation_requests: list[Id] | None = None


class ConfigAsked(Shape):
    properties: ConfigProperties | None = None


class StorageProperties(Shape):
    storage_model_type: Storage | None = None
    storage_type: Storage | None = None
    storage_type_state: Literal["Invalid", "Locked", "Unlocked"] | None = None
    cross_region_restore_flag: bool | None = None


class StorageAsked(Shape):
    properties: StorageProperties | None = None


class EncryptionProperties(Shape):
    encryption_at_rest_type: Literal["Invalid", "MicrosoftManaged", "CustomerManaged"] | None = None
    key_uri: Id | None = None
    subscription_id: Text | None = None
    last_update_status: Text | None = None
    infrastructure_encryption_state: Text | None = None  # Azure's own example says "true"


class EncryptionAsked(Shape):
    properties: EncryptionProperties | None = None


class NameAsked(Shape):
    name: Text | None = None
    type: Text | None = None


class StatusAsked(Shape):
    """Azure's word for the kind of a resource, and its id."""

    resource_type: (
        Literal[
            "Invalid", "VM", "FileFolder", "AzureSqlDb", "SQLDB", "Exchange", "Sharepoint",
            "VMwareVM", "SystemState", "Client", "GenericDataSource", "SQLDataBase",
            "AzureFileShare", "SAPHanaDatabase", "SAPAseDatabase", "SAPHanaDBInstance",
        ]
        | None
    ) = None  # fmt: skip
    resource_id: Id | None = None
    po_logical_name: Text | None = None


class PrevalidateAsked(StatusAsked):
    """What is to be protected, and in which vault."""

    vault_id: Id | None = None
    properties: Text | None = None


class FeaturesAsked(Shape):
    """``featureType``: AzureVMResourceBackup."""

    feature_type: Text | None = None
    vm_size: Text | None = None
    vm_sku: Text | None = None
