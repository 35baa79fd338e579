"""Witnesses of a vault's head: comparing, remembering, telling.

The catalog remembers the newest head this server saw and the one each agent brought. A vault just
opened is compared with all of them; one that is open is looked at with every round of the alerts. A
head is remembered a little after its record was made, so the catalog may lag behind the log, never
the other way.
"""

from __future__ import annotations

import logging

from holdfast.catalog import alerts, heads, vaults
from holdfast.catalog.database import Catalog
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.alerts import Cause
from holdfast.errors import IntegrityError
from holdfast.jobs.alerting import AlertBook, Said
from holdfast.vaultstore.head import Head
from holdfast.vaultstore.log import HeadSeen
from holdfast.vaultstore.vault import Vault

log = logging.getLogger(__name__)
RULE = "VaultDamaged"


def about(vault_id: str) -> str:
    """What the alert is about: the head of a vault's log, apart from what verify finds."""
    return f"{vault_id}/head"


def compare(catalog: Catalog, vault: Vault, row: VaultRow) -> IntegrityError | None:
    """Hold a vault just opened against all that was seen of it; its doubt, or None."""
    with catalog.read() as connection:
        seen = heads.witnesses_of(connection, row)
    for one in seen:
        if against(vault, one) is not None:
            break
    if vault.doubt is None:
        remember(catalog, vault, row.id)
    else:
        log.error("vault %s is read-only: %s", row.name, vault.doubt.message)
    return vault.doubt


def against(vault: Vault, seen: HeadSeen) -> IntegrityError | None:
    """Compare with one head; the vault's doubt after it."""
    head = Head(sequence=seen.sequence, term=seen.term, hash=seen.hash)
    return vault.witness(head, seen.by)


def remember(catalog: Catalog, vault: Vault, vault_id: str) -> None:
    """Let the catalog know the head, unless it knows that or a newer one."""
    head = vault.seen_head
    if head is None:
        return
    with catalog.read() as connection:
        row = vaults.get_vault(connection, vault_id)
    if row is None or (row.head_term, row.head_sequence) >= (head.term, head.sequence):
        return
    with catalog.write() as connection:
        heads.note_head(connection, vault_id, head)


def tell(catalog: Catalog, book: AlertBook, row: VaultRow, doubt: IntegrityError | None) -> None:
    """Raise the alert of a vault that takes nothing, or resolve it."""
    with catalog.read() as connection:
        stands = alerts.fired(connection, row.id, RULE, about(row.id)) is not None
    if stands == (doubt is not None):
        return
    if doubt is None:
        said = Said(row.name, "the log is as it was seen")
    else:
        text = f"the vault takes nothing: {doubt.message}"
        said = Said(row.name, text, doubt.hint, {"errorCode": doubt.code})
    cause = Cause(RULE, about(row.id), "over" if doubt is None else "lasts")
    with catalog.write() as connection:
        book.note(connection, row.id, cause, said)
