"""Plans and jobs of a vault's own upkeep: expire, collect, verify, scrub, repair, import."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from holdfast.catalog import jobs, places, vaults
from holdfast.catalog.identifiers import id_text
from holdfast.catalog.places import ResourceGroup
from holdfast.catalog.vaults import NOT_READ, VaultRow
from holdfast.domain.names import check_group, check_vault
from holdfast.domain.path_text import encode_path
from holdfast.errors import ConflictError, NotFoundError, UsageError
from holdfast.jobs.expire import plan_vault
from holdfast.ports.jobs import JobSpec
from holdfast.services.platform import Platform
from holdfast.services.regions import LOCAL_REGION
from holdfast.vaultstore.importing import adopt_vault
from holdfast.vaultstore.recovery_key import open_recovery_key
from holdfast.vaultstore.values import CollectPlan, RepairPlan, Unlock
from holdfast.vaultstore.vaultclock import from_ns

Body = dict[str, Any]
KINDS = ("expire", "collect", "verify", "scrub", "repair")
READING = ("verify", "scrub")
DELETING = ("expire", "collect")  # these ask whether the clock is right


def plan_of(platform: Platform, vault: VaultRow, kind: str) -> Body:
    """What a run would do, with figures and reasons; nothing is done."""
    opened = platform.vaults.open(vault.id)
    if kind == "expire":
        planned = plan_vault(platform.catalog, opened, vault.id, platform.now())
        rows = [
            {
                "itemName": row.item_name,
                "recoveryPointId": row.decision.point.id,
                "recoveryPointTime": row.decision.point.time,
                "keep": row.decision.keep,
                "expiresAt": row.decision.expires_at,
                "reason": row.decision.reason,
                "storedBytes": row.stored_bytes,
            }
            for row in planned
        ]
        return {"plan": rows, "dropped": sum(not row["keep"] for row in rows)}
    if kind == "repair":
        return _repair_plan(opened.plan_repair())
    if kind in READING:
        figures = opened.statistics()
        return {"plan": [], "packs": figures.packs, "storedBytes": figures.stored_bytes}
    return _collect_plan(
        opened.plan_collect(rewrite_below=platform.settings.collect_rewrite_percent / 100)
    )


def _collect_plan(plan: CollectPlan) -> Body:
    return {
        "plan": [
            {"action": "condemn", "packs": len(plan.condemn), "bytes": plan.condemn_bytes},
            {"action": "delete", "packs": len(plan.sweep), "bytes": plan.sweep_bytes},
            {"action": "wait for sessions", "packs": len(plan.fenced), "bytes": 0},
            {
                "action": _waiting(plan),
                "packs": len(plan.locked),
                "bytes": plan.locked_bytes,
            },
            {
                "action": "delete leftovers",
                "packs": len(plan.orphans),
                "bytes": plan.orphan_bytes,
            },
            {"action": "leftovers that wait for sessions", "packs": len(plan.torn), "bytes": 0},
            {
                "action": "rewrite: write first",
                "packs": len(plan.rewrite),
                "bytes": plan.rewrite_copy_bytes + plan.rewrite_table_bytes,
            },
            {
                "action": "rewrite: free then",
                "packs": len(plan.rewrite),
                "bytes": plan.rewrite_bytes,
            },
            {
                "action": "keep",
                "packs": plan.live_packs - len(plan.rewrite),
                "bytes": plan.live_bytes - plan.rewrite_bytes,
            },
            {
                "action": "dead in live packs",
                "packs": plan.sparse_packs,
                "bytes": plan.sparse_dead_bytes,
            },
        ]
    }


def _waiting(plan: CollectPlan) -> str:
    """What a plan says of packs that nothing needs and whose lock horizon has not come."""
    if not plan.locked:
        return "wait for their lock horizon"
    first, last = from_ns(plan.locked_from_ns), from_ns(plan.locked_until_ns)
    until = f"{first:%Y-%m-%d}" if first == last else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    return f"wait for their lock horizon ({until})"


def _repair_plan(plan: RepairPlan) -> Body:
    rows = [
        {
            "action": step.action,
            "object": step.key,
            "detail": step.detail,
            "recoveryPoints": list(step.recovery_points),
            "chunks": step.chunks,
            "files": [encode_path(name) for name in step.files],
            "fileCount": step.file_count,
        }
        for step in plan.steps
    ]
    return {"plan": rows, "checked": plan.checked}


def start(platform: Platform, vault: VaultRow, kind: str, by: str) -> str:
    """Run it as a job; the job's id."""
    if kind in DELETING:
        trusted, why = platform.vaults.open(vault.id).clock_trusted()
        if not trusted:
            raise ConflictError(
                f"the clock cannot be trusted: {why}",
                code="ClockUntrusted",
                hint="set the clock right, or confirm it: holdfast vault confirm-clock",
            )
    return platform.jobs.submit(
        JobSpec(kind=_kind(kind), vault_id=vault.id, entity_name=vault.name, created_by=by)
    )


def _kind(kind: str) -> Any:
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no upkeep", hint=f"one of {', '.join(KINDS)}")
    return kind


def confirm_clock(platform: Platform, vault: VaultRow) -> None:
    """A person says the clock is right."""
    platform.vaults.open(vault.id).confirm_clock()


@dataclass(frozen=True, slots=True)
class ImportAsked:
    """``path``: the vault's own folder; or ``store_url``: the store that holds it."""

    store_url: str
    path: str
    key_file: bytes
    passphrase: str
    name: str
    location: str


def import_vault(
    platform: Platform, group: str, asked: ImportAsked, by: str
) -> tuple[VaultRow, str]:
    """Bring a vault in by its exported key: its rings are opened for this platform, a row is made,
    and a job rebuilds policies, items and recovery points. Returns the vault and the job's id.

    An S3 store is reached with the credentials of the region it belongs to. An import that was
    cancelled or failed goes on by another job. ConflictError (VaultAlreadyPresent); AccessError for
    a wrong passphrase; NotFoundError when the store does not hold the key's vault."""
    check_group(group)
    vault_bytes, _ = open_recovery_key(asked.key_file, asked.passphrase)
    vault_id = id_text(vault_bytes)
    url = _store_of(asked, vault_id)
    with platform.catalog.read() as connection:
        present = vaults.get_vault(connection, vault_id)
    if present is not None:
        return present, _go_on(platform, group, asked, present, by)
    region = _region_of_store(platform, url)
    row = _row(platform, group, asked, vault_id, region)
    unlock = Unlock(key_file=asked.key_file, passphrase=asked.passphrase)
    adopt_vault(
        platform.vaults.store(row.store_url, row.region),
        unlock,
        platform.vaults.platform_key,
        clock=platform.clock,
        rng=platform.rng,
    ).close()
    with platform.catalog.write() as connection:
        if places.get_group(connection, platform.subscription_id, group) is None:
            made = ResourceGroup(
                platform.subscription_id, group.lower(), group, "local", {}, platform.now()
            )
            places.add_group(connection, made)
        vaults.add_vault(connection, row)
        job = platform.jobs.create(connection, _job_of(row, by))
    platform.jobs.wake()
    return row, job


def _job_of(vault: VaultRow, by: str) -> JobSpec:
    return JobSpec(kind="import", vault_id=vault.id, entity_name=vault.name, created_by=by)


def _go_on(platform: Platform, group: str, asked: ImportAsked, vault: VaultRow, by: str) -> str:
    """Another job of a vault whose import has not come to its end; its id. ConflictError
    (VaultAlreadyPresent) for any other vault that is here."""
    name = asked.name.lower() or vault.name_key
    same = (vault.group_key, vault.name_key) == (group.lower(), name)
    with platform.catalog.write() as connection:
        vault = vaults.lock_vault(connection, vault.id) or vault
        runs = bool(jobs.active_jobs_of(connection, vault.id, kind="import"))
        if not same or runs or vault.deleted_at is not None or vault.life_written != NOT_READ:
            raise _is_present(vault, runs)
        job = platform.jobs.create(connection, _job_of(vault, by))
    platform.jobs.wake()
    return job


def _is_present(vault: VaultRow, runs: bool) -> ConflictError:
    deleted = vault.deleted_at is not None
    hint = "import it on an empty server"
    if deleted:
        hint = "bring it back: holdfast vault undelete NAME"
    elif runs:
        hint = f"its import runs: holdfast job list --operation Import -v {vault.name}"
    return ConflictError(
        f"this server has the vault already: {vault.name} in {vault.group_key}"
        f"{' (deleted)' if deleted else ''}",
        code="VaultAlreadyPresent",
        hint=hint,
    )


def _store_of(asked: ImportAsked, vault_id: str) -> str:
    """The address of the store that holds the vault's folder."""
    if not asked.path:
        return asked.store_url
    folder = Path(asked.path)
    with suppress(OSError):  # a name too long, a folder we may not look into
        if folder.name == vault_id and folder.is_dir():
            return folder.resolve().parent.as_uri()
        if (folder / vault_id).is_dir():
            return folder.resolve().as_uri()
    raise NotFoundError(
        f"{folder} does not hold vault {vault_id}",
        code="VaultStoreMissing",
        hint=f"give the folder called {vault_id}, or the one it lies in, that the server may read",
    )


def _region_of_store(platform: Platform, url: str) -> tuple[str, str]:
    """(region, store address) of an address; local folders need no region of their own."""
    with platform.catalog.read() as connection:
        for row in places.list_regions(connection):
            if row.store_url.rstrip("/") == url.rstrip("/"):
                return row.name, row.store_url
    if not url.startswith("file:"):
        raise UsageError(
            f"no region has the store {url}",
            code="RegionRequired",
            hint=f"make one first: holdfast region create NAME --store {url} --credentials FILE",
        )
    return LOCAL_REGION, url


def _row(
    platform: Platform, group: str, asked: ImportAsked, vault_id: str, where: tuple[str, str]
) -> VaultRow:
    region, url = where
    name = check_vault(asked.name or f"imported-{vault_id[:8]}")
    now: datetime = platform.now()
    with platform.catalog.read() as connection:
        taken = vaults.find_vault(connection, platform.subscription_id, group, name)
    if taken is not None:
        raise ConflictError(
            f"{group} has a vault {name}", code="VaultExists", hint="choose another name: --name"
        )
    return VaultRow(
        id=vault_id,
        subscription_id=platform.subscription_id,
        group_key=group.lower(),
        name_key=name.lower(),
        name=name,
        location=asked.location or region,
        region=region,
        store_url=url,
        unlock_kind="platform",
        state="Active",
        tags={},
        properties={"properties": {}},
        etag=platform.new_etag(),
        head_sequence=0,
        head_hash="",
        key_exported_at=now,
        next_maintenance_at=now + timedelta(hours=24),
        created_at=now,
        updated_at=now,
        life_written=NOT_READ,
    )
