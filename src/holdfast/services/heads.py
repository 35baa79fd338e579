"""Heads of vaults' logs: looked at while the server runs, and accepted when a person says so."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from holdfast.catalog import heads as witnesses
from holdfast.catalog import points, vaults
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import HoldfastError
from holdfast.jobs import heads
from holdfast.jobs.lost_points import lost_lately
from holdfast.services.alerts import book_of
from holdfast.services.platform import Platform
from holdfast.vaultstore.accepting import AcceptHeadPlan
from holdfast.vaultstore.head import Head
from holdfast.vaultstore.log import HeadSeen
from holdfast.vaultstore.vault import Vault

Body = dict[str, Any]
log = logging.getLogger(__name__)


def watch_heads(platform: Platform) -> None:
    """Look at the head of every vault: remember it, or tell that it is another one."""
    with platform.catalog.read() as connection:
        rows = vaults.list_vaults(connection)
    for row in rows:
        try:
            look_at(platform, row)
        except HoldfastError as error:
            log.info("the head of vault %s cannot be seen: %s", row.name, error.message)


def look_at(platform: Platform, row: VaultRow) -> Vault:
    """The vault, opened anew when its store serves something else than before."""
    vault = platform.vaults.open(row.id)
    moved = vault.look_at_head()
    accepted_elsewhere = vault.doubt is not None and row.head_term > vault.log_head.term
    if moved or accepted_elsewhere:
        platform.vaults.forget(row.id)
        vault = platform.vaults.open(row.id)
    heads.remember(platform.catalog, vault, row.id)
    heads.tell(platform.catalog, book_of(platform), row, vault.doubt)
    return vault


def plan_accept(platform: Platform, row: VaultRow) -> AcceptHeadPlan:
    """What going on with the store's log would give up. ConflictError (HeadNotInDoubt)."""
    return _plan(platform, row, look_at(platform, row))


def _plan(platform: Platform, row: VaultRow, vault: Vault) -> AcceptHeadPlan:
    with platform.catalog.read() as connection:
        current = vaults.get_vault(connection, row.id) or row
        seen = witnesses.witnesses_of(connection, current)
        known = points.point_ids(connection, row.id)
        lost = {one["id"] for one in lost_lately(connection, row.id, platform.now())}
    return vault.plan_accept_head(seen, sorted(known | lost))


def accept(platform: Platform, row: VaultRow) -> tuple[AcceptHeadPlan, Head]:
    """Go on with the store's log under a higher term; what was given up and the new head. The
    catalog follows. ConflictError (HeadNotInDoubt, HeadMoved)."""
    vault = look_at(platform, row)
    plan = _plan(platform, row, vault)
    head = vault.accept_head(plan)
    log.warning("vault %s goes on at record %d under term %d", row.name, head.sequence, head.term)
    look_at(platform, row)
    return plan, head


def audit(platform: Platform, row: VaultRow, since: Head) -> Body:
    """What the vault's signed log says of the time since a head; the head it ends at. NotFoundError
    (VaultStoreMissing); IntegrityError (LogRolledBack, LogForked, LogDamaged) when the log does not
    continue that head."""
    found = look_at(platform, row).audit(since)
    changes: list[Body] = [msgspec.to_builtins(change) for change in found.changes]
    return {
        "since": head_body(found.since),
        "head": {**head_body(found.head), "text": found.head.text},
        "records": found.records,
        "complete": found.complete,
        "totals": found.totals,
        "changes": changes,
    }


def head_body(head: Head | HeadSeen) -> Body:
    """A head as clients see it."""
    return {"sequence": head.sequence, "term": head.term, "hash": head.hash.hex()}


def plan_body(platform: Platform, row: VaultRow, plan: AcceptHeadPlan) -> Body:
    """A plan as clients see it, with what is known of each lost point."""
    with platform.catalog.read() as connection:
        named = {one["id"]: one for one in lost_lately(connection, row.id, platform.now())}
    return {
        "head": head_body(plan.head),
        "newTerm": plan.term,
        "doubt": {"code": plan.doubt[0], "message": plan.doubt[1]},
        "witnesses": [{**head_body(seen), "seenBy": seen.by} for seen in plan.witnessed],
        "setAside": list(plan.set_aside),
        "lostRecoveryPoints": [
            named.get(rp_id, {"id": rp_id, "time": "", "item": ""}) for rp_id in plan.lost
        ],
    }
