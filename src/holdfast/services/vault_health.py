"""What `vault show` says beyond ARM: where a vault lies, its figures, and what is to be done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.catalog.upkeep import MaintenanceRun
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import HoldfastError, IntegrityError
from holdfast.jobs.lost_points import CODE as LOST
from holdfast.jobs.lost_points import lost_lately
from holdfast.jobs.probing import FAILED, last_probe
from holdfast.jobs.scrub_schedule import next_scrub
from holdfast.services.copies import copies_body, store_of
from holdfast.services.heads import head_body, look_at
from holdfast.services.platform import Platform
from holdfast.services.vaults_open import store_missing
from holdfast.vaultstore.values import Check, VaultHealth
from holdfast.vaultstore.vaultclock import from_ns

Body = dict[str, Any]
LOST_SHOWN, DAMAGED_SHOWN = 5, 3


def health_of(platform: Platform, row: VaultRow) -> Body:
    """Our own part of a vault's properties."""
    with platform.catalog.read() as connection:
        probe = last_probe(connection, row.id)
        scrub = next_scrub(connection, row, platform.settings.scrub_days)
    found: Body = {
        "vaultId": row.id,
        "region": row.region,
        "storeUrl": row.store_url,
        "keyExported": row.key_exported_at is not None,
        "storeProbe": _probe_body(probe),
        "nextScrub": None if scrub is None else scrub.isoformat(),
        "warnings": [*_standing_warnings(row), *_probe_warnings(probe)],
    }
    try:
        if not platform.vaults.is_there(row):
            raise store_missing(row)
        vault = look_at(platform, row)
        figures, known = vault.statistics(), vault.health()
    except HoldfastError as error:
        found["warnings"].append(f"{error.message} [{error.code}]: {error.hint}")
        return found
    found["copies"] = _copies(platform, row, found["warnings"])
    with platform.catalog.read() as connection:
        lost = lost_lately(connection, row.id, platform.now())
    if lost:
        found["warnings"].append(_lost_warning(lost))
    if known.found:
        found["warnings"].append(_damage_warning(row, known))
    if vault.doubt is not None:
        found["warnings"].append(_doubt_warning(vault.doubt))
    return found | {
        "lastScrub": _check_body(known.checks.get("scrub")),
        "lastVerify": _check_body(known.checks.get("verify")),
        "damagedObjects": len(known.found),
        "lostRecoveryPoints": lost,
        "recoveryPoints": figures.recovery_points,
        "packs": figures.packs,
        "storedBytes": figures.stored_bytes,
        "head": figures.head,
        "logHead": {**head_body(vault.log_head), "text": vault.log_head.text},
        "readOnly": _doubt_body(vault.doubt),
    }


def _copies(platform: Platform, row: VaultRow, warnings: list[str]) -> Body | None:
    """The disks of a vault that lies on several, and what lies on fewer than all."""
    store = store_of(platform, row)
    if store is None:
        return None
    body = copies_body(store, f"{row.id}/")
    warnings += body.pop("warnings")
    return body


def _doubt_body(doubt: IntegrityError | None) -> Body | None:
    """Why the vault takes nothing."""
    if doubt is None:
        return None
    return {"code": doubt.code, "message": doubt.message, "hint": doubt.hint}


def _doubt_warning(doubt: IntegrityError) -> str:
    return f"the vault is read-only: {doubt.message} [{doubt.code}]: {doubt.hint}"


def _standing_warnings(row: VaultRow) -> Iterator[str]:
    if row.key_exported_at is None:
        yield (
            "the recovery key was never exported: without it a lost server loses this vault; run "
            f"holdfast vault export-key {row.name} -g {row.group_key} -o FILE"
        )


def _probe_body(probe: MaintenanceRun | None) -> Body | None:
    """The last test of the store since the vault's creation."""
    if probe is None:
        return None
    passed = probe.status != FAILED
    return {"time": probe.started_at.isoformat(), "passed": passed, "detail": probe.detail}


def _probe_warnings(probe: MaintenanceRun | None) -> Iterator[str]:
    if probe is not None and probe.status == FAILED:
        stopped = "" if probe.result.get("atomic") else "backups are stopped; "
        yield (
            f"the weekly test of the vault's store failed: {probe.detail} "
            f"[{probe.result.get('code')}]: {stopped}mend the store; it is tested again daily, "
            "and by holdfast vault expire"
        )


def _check_body(check: Check | None) -> Body | None:
    if check is None:
        return None
    return {
        "startTime": from_ns(check.started_ns).isoformat(),
        "time": from_ns(check.ended_ns).isoformat(),
        "complete": check.complete,
        "objects": check.objects,
        "storedBytes": check.stored_bytes,
        "damagedObjects": check.damages,
    }


def _damage_warning(row: VaultRow, known: VaultHealth) -> str:
    shown = ", ".join(one.damage.key for one in known.found[:DAMAGED_SHOWN])
    points = {rp_id for one in known.found for rp_id in one.damage.recovery_points}
    return (
        f"{len(known.found)} objects are damaged ({shown}), {len(points)} recovery points need "
        f"them: look with holdfast vault repair {row.name} -g {row.group_key} --plan"
    )


def _lost_warning(lost: list[dict[str, str]]) -> str:
    shown = ", ".join(f"{one['id']} of {one['item']}" for one in lost[:LOST_SHOWN])
    more = f" and {len(lost) - LOST_SHOWN} more" if len(lost) > LOST_SHOWN else ""
    return (
        f"{len(lost)} recovery points that were made are not in the vault [{LOST}]: {shown}{more}; "
        "the vault's folder is an older copy, or was written to elsewhere: put its newest copy "
        "back, which brings them back"
    )
