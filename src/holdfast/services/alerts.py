"""Alerts for people: what their own changes raise, and lists, states and settings of alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import alerts, policies
from holdfast.catalog.alerts import AlertEvent, AlertRow, AlertSettings
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.alerts import Cause, check_state, shortened
from holdfast.domain.hook_names import check_hooks, read_hooks
from holdfast.domain.lifecycle import STOPPED
from holdfast.domain.mail_names import check_address
from holdfast.domain.policy import Policy, parse_policy
from holdfast.domain.policy_change import ChangeCounts
from holdfast.errors import NotFoundError, UsageError
from holdfast.jobs.alerting import AlertBook, Said
from holdfast.services.platform import Platform
from holdfast.services.vault_bodies import soft_delete_of

MOST_RECEIVERS, MOST_COMMENT = 50, 2000


def book_of(platform: Platform) -> AlertBook:
    return AlertBook(platform.clock, platform.rng)


# what people's changes raise: called where they happen, in the same transaction


def item_changed(
    platform: Platform,
    connection: Connection,
    old: ItemRow,
    new: ItemRow,
    changes: ChangeCounts | None = None,
) -> None:
    """Protection stopped or resumed, or another policy with shorter retention; ``changes``: what
    that does to recovery points."""
    stopped = new.protection_state in STOPPED
    cause = Cause("ProtectionStopped", new.id, "happened" if stopped else "over")
    details = {"itemName": new.friendly_name, "protectionState": new.protection_state}
    if stopped != (old.protection_state in STOPPED):
        text = f"backups of {new.friendly_name} are {'stopped' if stopped else 'running again'}"
        hint = "if you did not want this: holdfast item update NAME --policy P resumes it"
        said = Said(new.friendly_name, text, hint if stopped else "", details)
        book_of(platform).note(connection, new.vault_id, cause, said)
    if new.policy_id and old.policy_id and new.policy_id != old.policy_id:
        _policy_switched(platform, connection, old, new)
    elif new.policy_id and not old.policy_id and changes is not None and changes.expires:
        _points_given_up(platform, connection, new, changes.expires)


def _policy_switched(
    platform: Platform, connection: Connection, old: ItemRow, new: ItemRow
) -> None:
    before = policies.get_policy(connection, old.policy_id or "")
    after = policies.get_policy(connection, new.policy_id or "")
    if before is None or after is None:
        return
    lost = shortened(parse_policy(before.properties).rules, parse_policy(after.properties).rules)
    if lost:
        text = f"{new.friendly_name} goes from policy {before.name} to {after.name}: "
        hint = "if you did not want this, give the item its old policy before the next expiry"
        details = {"itemName": new.friendly_name, "policyName": after.name, "shortened": lost}
        said = Said(new.friendly_name, text + "; ".join(lost), hint, details)
        cause = Cause("ShorterRetention", new.id, "happened")
        book_of(platform).note(connection, new.vault_id, cause, said)


def _points_given_up(platform: Platform, connection: Connection, item: ItemRow, count: int) -> None:
    """Resumed under a policy that does not keep what was kept without one."""
    name = item.friendly_name
    text = f"{name} is resumed, and {count} recovery points kept until now expire by its policy"
    hint = f"if you did not want this, stop it before the next expiry: holdfast item stop {name}"
    said = Said(name, text, hint, {"itemName": name, "expire": count})
    cause = Cause("ShorterRetention", item.id, "happened")
    book_of(platform).note(connection, item.vault_id, cause, said)


def policy_changed(
    platform: Platform, connection: Connection, old: PolicyRow, new: Policy, used: Sequence[ItemRow]
) -> None:
    """A policy in use that keeps less than before."""
    lost = shortened(parse_policy(old.properties).rules, new.rules) if used else []
    if lost:
        names = ", ".join(item.friendly_name for item in used[:5])
        text = f"policy {old.name} protects {len(used)} item(s) ({names}): {'; '.join(lost)}"
        hint = "if you did not want this, put the old retention back before the next expiry"
        details = {"policyName": old.name, "shortened": lost}
        cause = Cause("ShorterPolicyRetention", old.id, "happened")
        book_of(platform).note(connection, old.vault_id, cause, Said(old.name, text, hint, details))


def data_deleted(
    platform: Platform, connection: Connection, item: ItemRow, by: str, points: int
) -> None:
    """Somebody deletes all recovery points of an item."""
    text = f"{by} deletes {item.friendly_name} with its {points} recovery points"
    hint = "see who may do so: holdfast role list; and the audit record"
    details = {"itemName": item.friendly_name, "recoveryPoints": points, "by": by}
    cause = Cause("DeleteBackupData", item.id, "happened")
    said = Said(item.friendly_name, text, hint, details)
    book_of(platform).note(connection, item.vault_id, cause, said)


def data_undeleted(platform: Platform, connection: Connection, item: ItemRow) -> None:
    """Deleted data is brought back."""
    text = f"the data of {item.friendly_name} was brought back"
    for rule in ("DeleteBackupData", "UpcomingPurge"):
        cause = Cause(rule, item.id, "over")
        book_of(platform).note(connection, item.vault_id, cause, Said(item.friendly_name, text))


def vault_changed(platform: Platform, connection: Connection, old: VaultRow, new: VaultRow) -> None:
    """Soft delete was switched off, or on again."""
    keeps = soft_delete_of(new).keeps
    if keeps == soft_delete_of(old).keeps:
        return
    cause = Cause("SoftDeleteDisabled", new.id, "over" if keeps else "happened")
    text = f"soft delete of {new.name} is {'on' if keeps else 'off: deleted data goes at once'}"
    hint = f"if you did not want this: holdfast vault update {new.name} --soft-delete enabled"
    said = Said(new.name, text, "" if keeps else hint, {"vaultName": new.name})
    book_of(platform).note(connection, new.id, cause, said)


# what people do with alerts


def find_alert(
    connection: Connection, vaults: Sequence[VaultRow], alert_id: str
) -> tuple[AlertRow, VaultRow]:
    """NotFoundError (AlertNotFound)."""
    row = alerts.get_alert(connection, alert_id.lower())
    for vault in vaults:
        if row is not None and row.vault_id == vault.id:
            return row, vault
    raise NotFoundError(
        f"there is no alert {alert_id[:50]}",
        code="AlertNotFound",
        hint="see which there are: holdfast alert list",
    )


def change_state(
    platform: Platform,
    vaults: Sequence[VaultRow],
    alert_id: str,
    state: str,
    comment: str,
    by: str,
) -> tuple[AlertRow, VaultRow]:
    """Acknowledge, close or open an alert again. UsageError (InvalidAlertState)."""
    wanted = check_state(state)
    with platform.catalog.write() as connection:
        row, vault = find_alert(connection, vaults, alert_id)
        if row.state == wanted and not comment:
            return row, vault
        now = platform.now()
        values: dict[str, Any] = {"state": wanted, "changed_at": now, "changed_by": by}
        alerts.change_alert(connection, row.id, **values)
        text = comment[:MOST_COMMENT]
        event = AlertEvent(row.id, now, "StateChange", row.state, wanted, by, text)
        alerts.add_event(connection, event)
    return replace(row, **values), vault


def settings_of(connection: Connection, platform: Platform, vault: VaultRow) -> AlertSettings:
    """Who is told of a vault's alerts besides the server's receivers."""
    found = alerts.get_settings(connection, vault.id)
    most = platform.settings.alert_severity
    return found or AlertSettings(vault.id, [], [], most, vault.created_at)


def put_settings(
    platform: Platform, vault: VaultRow, emails: Any, webhooks: Any, severity: Any
) -> AlertSettings:
    """UsageError (InvalidAlertSettings, InvalidAddress)."""
    most = platform.settings.alert_severity if severity is None else severity
    addresses, hooks = _texts("emails", emails), _texts("webhooks", webhooks)
    if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= 4:
        raise UsageError(
            "severity is no number from 0 to 4",
            code="InvalidAlertSettings",
            hint="alerts up to it are sent: 0 sends the critical ones only, 4 all",
        )
    for address in addresses:
        check_address(address)
    check_hooks(hooks, read_hooks(platform.settings.alert_webhooks))
    row = AlertSettings(vault.id, addresses, hooks, most, platform.now())
    with platform.catalog.write() as connection:
        alerts.put_settings(connection, row)
    return row


def _texts(name: str, given: Any) -> list[str]:
    """Each once."""
    texts = [one for one in given if isinstance(one, str)] if isinstance(given, list) else []
    if texts != given or len(texts) > MOST_RECEIVERS:
        raise UsageError(
            f"{name} is no list of at most {MOST_RECEIVERS} texts",
            code="InvalidAlertSettings",
            hint='send {"emails": ["ann@example.org"], "webhooks": ["team-a"], "severity": 2}',
        )
    return list(dict.fromkeys(texts))
