"""What a client may say of a vault: checked, merged, and what it asked for in vain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.catalog.vaults import VaultRow
from holdfast.errors import UsageError

Body = dict[str, Any]
MAX_TAGS = 50
_SHAPE: Body = {
    "location": str,
    "tags": {},
    "sku": {"name": str},
    "identity": {"type": str},
    "properties": {
        "redundancySettings": {},
        "monitoringSettings": {"azureMonitorAlertSettings": {}, "classicAlertSettings": {}},
        "securitySettings": {"softDeleteSettings": {}, "immutabilitySettings": {}},
        "restoreSettings": {"crossSubscriptionRestoreSettings": {}},
        "encryption": {},
    },
}


def check_body(body: Body) -> None:
    """UsageError for what has the wrong kind, or asks for a protection this release lacks."""
    _check_kinds(body, _SHAPE, "")
    tags = body.get("tags") or {}
    if len(tags) > MAX_TAGS or not all(isinstance(value, str) for value in tags.values()):
        raise UsageError(
            f"tags are more than {MAX_TAGS}, or not texts",
            code="InvalidRequestContent",
            hint='send tags as {"name": "text"}',
        )
    security = (body.get("properties") or {}).get("securitySettings") or {}
    state = str((security.get("immutabilitySettings") or {}).get("state") or "Disabled")
    if state.lower() != "disabled":
        raise UsageError(
            "immutable vaults are not supported by this release",
            code="UserErrorNotSupported",
            hint="leave immutabilitySettings.state at Disabled; keep a copy where the server "
            "cannot delete, such as a bucket with object lock",
        )


def _check_kinds(given: Body, shape: Body, where: str) -> None:
    """Where ``shape`` has an object or a text, ``given`` has one too, or nothing."""
    for key, kind in shape.items():
        value = given.get(key)
        expected = dict if isinstance(kind, dict) else kind
        if value is not None and not isinstance(value, expected):
            raise UsageError(
                f"{where}{key} has the wrong kind",
                code="InvalidRequestContent",
                hint=f"send {'an object' if expected is dict else 'a text'} there",
            )
        if isinstance(kind, dict) and value is not None:
            _check_kinds(value, kind, f"{where}{key}.")


def soft_delete_asked(row: VaultRow) -> bool:
    """Whether a client asked for soft delete, as the Azure command line always does."""
    security = (row.properties.get("properties") or {}).get("securitySettings") or {}
    settings = security.get("softDeleteSettings") or {}
    return str(settings.get("softDeleteState") or "Disabled").lower() != "disabled"


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> Body:
    """``new`` over ``old``, objects merged at every depth, nulls removing."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = merge(before, value)
        else:
            result[key] = value
    return result
