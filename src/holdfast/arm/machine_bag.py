"""The property bag of a virtual machine's job: Azure's names, which its command line reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast.catalog.jobs import JobRow

JOB_TYPES = {
    "folder": "Recover disks",
    "new": "Recover virtual machine",
    "replace": "Replace existing disks",
    "instant": "Run from the vault",
    "move": "Move disks to local storage",
    "test": "Test the recovery point",
    "files": "Recover files",
}
OS_LUN = -1


def machine_bag(row: JobRow) -> dict[str, Any]:
    """Without what is not known yet."""
    if row.kind == "restore":
        return _restore(row)
    backed_up = [int(disk.get("lun", OS_LUN)) for disk in row.result.get("disks") or []]
    return {
        "VM Name": row.entity_name,
        "Policy Name": row.parameters.get("policyName"),
        "Backed-up disk(s)": _named(backed_up),
        "Excluded disk(s)": _named(row.result.get("excludedDisks") or []),
    }


def _named(luns: Iterable[int]) -> str:
    return ", ".join("OS disk" if lun == OS_LUN else f"LUN {lun}" for lun in sorted(luns))


def _restore(row: JobRow) -> dict[str, Any]:
    asked, target, result = row.parameters, row.parameters.get("target") or {}, row.result
    folder, _, definition = str(result.get("definition") or "").rpartition("/")
    return {
        "Job Type": JOB_TYPES.get(target.get("kind", ""), ""),
        "Original VM Name": row.entity_name,
        "Recovery point time ": asked.get("pointTime"),
        "Target Storage Account Name": asked.get("storageAccount"),
        "Target Virtual machine Name": target.get("name"),
        "Target": target.get("folder") if target.get("kind") == "files" else None,
        "Config Blob Container Name": folder,
        "Config Blob Name": definition,
        "Template Blob Uri": result.get("definition"),
    }
