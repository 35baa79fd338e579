"""What a client may say of a vault: checked, merged, and what it asked for in vain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.catalog.vaults import VaultRow
from holdfast.domain.soft_delete import SoftDelete, changed, settings_of, stored_in, written
from holdfast.errors import UsageError

Body = dict[str, Any]
MAX_TAGS = 50
AS_PER_POLICY, FOR_GOOD = "AsPerPolicy", "PermanentlyDisabled"
_SHAPE: Body = {
    "location": str,
    "tags": {},
    "sku": {"name": str},
    "identity": {"type": str},
    "properties": {
        "redundancySettings": {},
        "monitoringSettings": {"azureMonitorAlertSettings": {}, "classicAlertSettings": {}},
        "securitySettings": {
            "softDeleteSettings": {},
            "immutabilitySettings": {"state": str, "configuration": {}},
        },
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
    asked = body.get("properties") or {}
    if (asked.get("encryption") or {}).get("keyVaultProperties"):
        raise no_customer_keys("encryption.keyVaultProperties")
    if asked.get("publicNetworkAccess") == "Disabled":
        raise UsageError(
            "publicNetworkAccess Disabled is not supported by this release: a vault answers "
            "wherever its server does",
            code="UserErrorNotSupported",
            hint="leave it Enabled; which networks reach the server is the firewall's to say",
        )
    held = (asked.get("securitySettings") or {}).get("immutabilitySettings") or {}
    kind = (held.get("configuration") or {}).get("type") or AS_PER_POLICY
    if kind != AS_PER_POLICY:
        raise UsageError(
            f"an immutability of the kind {str(kind)[:50]!r} is not supported by this release",
            code="UserErrorNotSupported",
            hint=f"recovery points are held as their policy says: leave it out, or {AS_PER_POLICY}",
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


def soft_delete_of(row: VaultRow) -> SoftDelete:
    """What a vault is set to."""
    return settings_of(row.properties)


def settle_soft_delete(merged: Body, old: SoftDelete, asked: Mapping[str, Any]) -> Body:
    """Stored properties with the setting that follows from ``old`` and a request's body.
    UsageError, ConflictError for what cannot be set."""
    wanted = stored_in(asked)
    new = changed(
        old,
        wanted.get("softDeleteState"),
        wanted.get("softDeleteRetentionPeriodInDays"),
        wanted.get("enhancedSecurityState"),
    )
    settings = {"securitySettings": {"softDeleteSettings": written(new)}}
    return merge(merged, {"properties": settings})


def keep_lasting(old: Mapping[str, Any], merged: Body) -> Body:
    """``merged`` with what Azure lets nobody take back: nulls do not either. UsageError
    (BMSUserErrorInvalidInput) for another state."""
    after = _across_subscriptions(merged)
    if _across_subscriptions(old) != FOR_GOOD or after == FOR_GOOD:
        return merged
    if after is not None:
        raise UsageError(
            f"crossSubscriptionRestoreState is {FOR_GOOD} and cannot become {after}",
            code="BMSUserErrorInvalidInput",
            hint="nobody can take it back; a new vault may be set otherwise",
        )
    setting = {"crossSubscriptionRestoreSettings": {"crossSubscriptionRestoreState": FOR_GOOD}}
    return merge(merged, {"properties": {"restoreSettings": setting}})


def _across_subscriptions(stored: Mapping[str, Any]) -> Any:
    restoring = (stored.get("properties") or {}).get("restoreSettings") or {}
    setting = restoring.get("crossSubscriptionRestoreSettings") or {}
    return setting.get("crossSubscriptionRestoreState")


def no_customer_keys(field: str) -> UsageError:
    """Why a key of the customer's is refused: silently encrypting under another would be a lie."""
    return UsageError(
        f"{field} asks for a key of your own, which this release does not use: vaults are "
        "encrypted under keys the server keeps",
        code="UserErrorNotSupported",
        hint="leave it out (MicrosoftManaged); agents never hold the keys, and the recovery key "
        "is yours to export: holdfast vault export-key",
    )


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> Body:
    """``new`` over ``old``, objects merged at every depth, nulls removing."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = merge(before, value)
        else:
            result[key] = without_nulls(value)
    return result


def without_nulls(value: Any) -> Any:
    """A body without what is null in it, at every depth."""
    if not isinstance(value, Mapping):
        return value
    return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
