"""What the API answers, as far as it is promised: fields that are always there, and their kinds."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from holdfast.arm.schemas.kinds import Management, Moment, Shape, Text, Workload
from holdfast.arm.schemas.policies import RetentionPolicy, SchedulePolicy, SubPolicy
from holdfast.arm.schemas.vaults import (
    ConfigProperties,
    EncryptionProperties,
    Identity,
    Monitoring,
    Redundancy,
    Restoring,
    Security,
    Sku,
    StorageProperties,
)

Row = TypeVar("Row")
Map = dict[str, Any]


class Listed(Shape, Generic[Row], kw_only=True):
    """``nextLink``: where the next page is; absent on the last."""

    value: list[Row]
    next_link: str | None = None


class Resource(Shape, kw_only=True):
    id: str
    name: str
    type: str


class Group(Resource, kw_only=True):
    location: str
    tags: dict[str, str]
    properties: Map


class VaultShown(Shape, kw_only=True):
    provisioning_state: Literal["Succeeded", "Provisioning"]
    public_network_access: Literal["Enabled", "Disabled"]
    redundancy_settings: Redundancy
    monitoring_settings: Monitoring
    security_settings: Security
    restore_settings: Restoring
    holdfast: Map | None = None


class Vault(Resource, kw_only=True):
    location: str
    etag: str
    tags: dict[str, str]
    sku: Sku
    identity: Identity | None
    properties: VaultShown


class Config(Resource, kw_only=True):
    properties: ConfigProperties


class StorageConfig(Resource, kw_only=True):
    properties: StorageProperties


class Encryption(Resource, kw_only=True):
    properties: EncryptionProperties


class PolicyShown(Shape, kw_only=True):
    backup_management_type: Literal["AzureIaasVM", "MAB", "AzureStorage", "AzureWorkload"]
    protected_items_count: int
    work_load_type: str | None = None
    time_zone: str | None = None
    schedule_policy: SchedulePolicy | None = None
    retention_policy: RetentionPolicy | None = None
    sub_protection_policy: list[SubPolicy] | None = None
    restore_test: Map | None = None
    consistency: Map | None = None
    holdfast: Map | None = None


class Policy(Resource, kw_only=True):
    e_tag: str
    properties: PolicyShown


class ContainerShown(Shape, kw_only=True):
    friendly_name: str
    backup_management_type: Management
    container_type: Literal["Windows", "Microsoft.Compute/virtualMachines"]
    registration_status: str
    health_status: str
    protected_item_count: int | None = None
    agent_version: str | None = None
    extended_info: Map | None = None
    virtual_machine_id: str | None = None
    holdfast: Map


class Container(Resource, kw_only=True):
    properties: ContainerShown


class OursShown(Shape, kw_only=True):
    """Of folders: what is included; of a virtual machine: which it is, and its consistency."""

    include_paths: list[str] | None = None
    exclude_globs: list[str] | None = None
    throttle_bytes_per_second: int | None = None
    uuid: str | None = None
    consistency: Map | None = None
    consistency_in_force: Map | None = None
    health: str
    overdue: bool


class ItemShown(Shape, kw_only=True):
    protected_item_type: Literal["MabFileFolderProtectedItem", "Microsoft.Compute/virtualMachines"]
    backup_management_type: Management
    workload_type: Workload
    friendly_name: str
    container_name: str
    source_resource_id: str | None
    policy_id: str
    policy_name: str
    protection_state: str
    last_backup_status: str
    last_backup_time: Moment
    last_recovery_point: Moment | None
    extended_info: Map
    holdfast: OursShown


class Item(Resource, kw_only=True):
    e_tag: str
    properties: ItemShown


class PointShown(Shape, kw_only=True):
    object_type: Literal["GenericRecoveryPoint", "IaasVMRecoveryPoint"]
    friendly_name: str | None = None
    recovery_point_type: str
    recovery_point_time: Moment
    recovery_point_properties: Map
    holdfast: Map


class Point(Resource, kw_only=True):
    properties: PointShown


class JobShown(Shape, kw_only=True):
    """``extendedInfo`` is shown of single jobs."""

    job_type: Literal["MabJob", "VaultJob", "AzureIaaSVMJob"]
    backup_management_type: Management
    entity_friendly_name: str
    operation: str
    status: Literal[
        "InProgress", "Cancelling", "Cancelled", "Completed", "CompletedWithWarnings", "Failed"
    ]
    start_time: Moment
    end_time: Moment | None
    duration: str
    activity_id: str
    actions_info: list[str]
    error_details: list[Map] | None = None
    extended_info: Map | None = None
    holdfast: Map


class Job(Resource, kw_only=True):
    properties: JobShown


class MachineShown(Shape, kw_only=True):
    vm_id: str
    provisioning_state: Literal["Succeeded", "Failed"]
    storage_profile: Map
    instance_view: Map | None = None
    holdfast: Map


class Machine(Resource, kw_only=True):
    """A virtual machine that a host reports."""

    location: str
    tags: dict[str, str]
    properties: MachineShown


class Account(Resource, kw_only=True):
    """A folder of a host to restore into."""

    location: str
    kind: Literal["StorageV2"]
    sku: Map
    tags: dict[str, str]
    properties: Map


class Operation(Shape, kw_only=True):
    """``properties`` names the job, if there is one; of a vault's own operation ``holdfast``."""

    id: str
    name: str
    status: Literal["InProgress", "Succeeded", "Failed", "Canceled"]
    start_time: Moment
    end_time: str | None = None
    properties: Map | None = None
    holdfast: Map | None = None
    error: Map | None = None


class Usage(Shape, kw_only=True):
    unit: Literal["Count", "Bytes"]
    current_value: int
    limit: int
    name: dict[str, str]


class NameFree(Shape, kw_only=True):
    name_available: bool
    reason: Literal["Invalid", "AlreadyExists"] | None
    message: str | None


class Status(Shape, kw_only=True):
    protection_status: Literal["NotProtected", "Protected"]
    vault_id: str | None = None


class Prevalidated(Shape, kw_only=True):
    status: Literal["Succeeded", "Failed"]
    error_code: str | None
    error_message: str | None
    recommendation: str | None


class Supported(Shape, kw_only=True):
    support_status: Literal["Supported", "NotSupported"]


class Protectable(Resource, kw_only=True):
    """What could be protected."""

    properties: Map


class Holder(Resource, kw_only=True):
    """Any resource of ours."""

    properties: Map


class Subscription(Shape, kw_only=True):
    id: str
    subscription_id: str
    display_name: str
    state: Literal["Enabled"]
    tenant_id: str


class Location(Shape, kw_only=True):
    id: str
    name: str
    display_name: str


class Properties(Shape, kw_only=True):
    properties: Map


class Changed(Shape, kw_only=True):
    properties: Map
    value: list[Map]


class Entry(Shape, kw_only=True):
    """A file or folder of a recovery point."""

    name: str
    path: str
    type: str
    size: int
    mtime: Moment | None
    mode: str
    uid: int
    gid: int
    link_target: str | None


class Document(Shape, kw_only=True):
    """An object."""


class Health(Shape, kw_only=True):
    status: Literal["healthy", "unhealthy"]
    problems: list[Text]
