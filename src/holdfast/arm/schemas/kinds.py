"""What the structs of bodies share. Fields may be absent or null; unknown ones are let pass, as
clients of many versions send them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec


class Shape(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """Keys are camelCase."""


Name = Annotated[str, msgspec.Meta(max_length=100)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]
Id = Annotated[
    str, msgspec.Meta(max_length=2000, description="ARM id", examples=["/subscriptions/..."])
]
Tags = dict[
    Annotated[str, msgspec.Meta(min_length=1, max_length=512)],
    Annotated[str, msgspec.Meta(max_length=256)],
]
Moment = Annotated[str, msgspec.Meta(max_length=40, extra_json_schema={"format": "date-time"})]
Switch = Literal["Enabled", "Disabled"]
# read by handlers, whose refusals have codes of their own: the kind is documented, not checked here
AnyText = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "string"})]
AnyTexts = Annotated[
    Any, msgspec.Meta(extra_json_schema={"type": "array", "items": {"type": "string"}})
]
AnyCounts = Annotated[
    Any, msgspec.Meta(extra_json_schema={"type": "array", "items": {"type": "integer"}})
]
AnyCount = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "integer", "minimum": 0})]
AnyMap = Annotated[
    Any,
    msgspec.Meta(extra_json_schema={"type": "object", "additionalProperties": {"type": "string"}}),
]
AnyHours = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "object"})]
SoftDelete = Literal["Invalid", "Enabled", "Disabled", "AlwaysON", "AlwaysOn"]
Management = Literal[
    "Invalid", "AzureIaasVM", "MAB", "DPM", "AzureBackupServer", "AzureSql", "AzureStorage",
    "AzureWorkload", "DefaultBackup",
]  # fmt: skip
Workload = Literal[
    "Invalid", "VM", "FileFolder", "AzureSqlDb", "SQLDB", "Exchange", "Sharepoint", "VMwareVM",
    "SystemState", "Client", "GenericDataSource", "SQLDataBase", "AzureFileShare",
    "SAPHanaDatabase", "SAPHanaDBInstance", "SAPAseDatabase",
]  # fmt: skip
Storage = Literal[
    "Invalid", "GeoRedundant", "LocallyRedundant", "ZoneRedundant", "ReadAccessGeoZoneRedundant"
]
ItemState = Literal[
    "Invalid", "IRPending", "Protected", "ProtectionError", "ProtectionStopped",
    "ProtectionPaused", "BackupsSuspended",
]  # fmt: skip
ItemKind = Literal[
    "MabFileFolderProtectedItem", "Microsoft.Compute/virtualMachines",
    "Microsoft.ClassicCompute/virtualMachines", "AzureIaaSVMProtectedItem",
    "AzureFileShareProtectedItem", "AzureVmWorkloadSQLDatabase", "AzureVmWorkloadSQLInstance",
    "AzureVmWorkloadSAPHanaDatabase", "AzureVmWorkloadSAPHanaDBInstance",
    "AzureVmWorkloadSAPAseDatabase", "AzureVmWorkloadProtectedItem",
    "Microsoft.Sql/servers/databases", "DPMProtectedItem", "GenericProtectedItem",
]  # fmt: skip
BackupKind = Literal[
    "FilesBackupRequest", "IaasVMBackupRequest", "AzureFileShareBackupRequest",
    "AzureWorkloadBackupRequest",
]  # fmt: skip
