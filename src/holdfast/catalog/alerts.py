"""Alert rows, their history, and who is told about the alerts of a vault."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, func, or_, select, text

from holdfast.catalog import tables as t
from holdfast.catalog.rows import (
    Page,
    insert,
    insert_new,
    many,
    one,
    page,
    remove,
    selecting,
    update,
)


@dataclass(frozen=True, slots=True)
class AlertRow:
    """``rule`` is a name of the domain's rules, ``about`` the id of what it is about, ``subject``
    that thing's name. ``state``: New | Acknowledged | Closed, moved by people; ``condition``:
    Fired | Resolved, moved by causes. ``last_at``: when the cause was met last. ``details``: jobId,
    itemName and the like."""

    id: str
    vault_id: str
    rule: str
    about: str
    severity: int
    state: str
    condition: str
    subject: str
    message: str
    hint: str
    details: dict[str, Any]
    occurrences: int
    fired_at: datetime
    last_at: datetime
    resolved_at: datetime | None
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One line of an alert's history."""

    alert_id: str
    at: datetime
    event: str
    old_value: str
    new_value: str
    by: str
    comment: str


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Who is told of a vault's alerts besides the server's own receivers, from which severity on.
    ``webhooks``: names of the server's settings."""

    vault_id: str
    emails: list[str]
    webhooks: list[str]
    severity: int
    updated_at: datetime


_C, _H = t.alerts.c, t.alert_history.c
_ALL = selecting(t.alerts, AlertRow)
_IS_FIRED = cast("ColumnElement[bool]", text(t.FIRED_SQL))


def add_alert(connection: Connection, row: AlertRow) -> bool:
    """Insert; False when another server raised the same a moment ago."""
    values = {name: getattr(row, name) for name in AlertRow.__slots__}
    return insert_new(connection, t.alerts, values)


def fired(connection: Connection, vault_id: str, rule: str, about: str) -> AlertRow | None:
    """The one alert whose cause stands."""
    query = _ALL.where(_C.vault_id == vault_id, _C.rule == rule, _C.about == about, _IS_FIRED)
    return one(connection, AlertRow, query)


def fired_of(
    connection: Connection, rules: Sequence[str], vault_id: str | None = None
) -> list[AlertRow]:
    """Every alert of some rules whose cause stands."""
    query = _ALL.where(_IS_FIRED, _C.rule.in_(rules))
    if vault_id is not None:
        query = query.where(_C.vault_id == vault_id)
    return many(connection, AlertRow, query.order_by(_C.id))


def get_alert(connection: Connection, alert_id: str) -> AlertRow | None:
    return one(connection, AlertRow, _ALL.where(_C.id == alert_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which alerts a list is to hold; None is any."""

    vault_ids: Sequence[str]
    state: str | None = None
    condition: str | None = None
    severity: int | None = None
    rule: str | None = None
    since: datetime | None = None


def page_alerts(
    connection: Connection, asked: Wanted, *, limit: int = 100, token: str = ""
) -> Page[AlertRow]:
    """Newest first; ``since`` bounds the time it was met last."""
    query = _ALL.where(_C.vault_id.in_(asked.vault_ids))
    for column, value in ((_C.state, asked.state), (_C.condition, asked.condition)):
        if value is not None:
            query = query.where(func.lower(column) == value.lower())
    if asked.severity is not None:
        query = query.where(_C.severity == asked.severity)
    if asked.rule is not None:
        query = query.where(func.lower(_C.rule) == asked.rule.lower())
    if asked.since is not None:
        query = query.where(_C.last_at >= asked.since)
    keys = [_C.fired_at, _C.id]
    return page(connection, AlertRow, query, keys=keys, descending=True, limit=limit, token=token)


def change_alert(connection: Connection, alert_id: str, **values: Any) -> int:
    return update(connection, t.alerts, values, _C.id == alert_id)


def add_event(connection: Connection, event: AlertEvent) -> None:
    insert(connection, t.alert_history, event)


def history_of(connection: Connection, alert_id: str) -> list[AlertEvent]:
    """Oldest first."""
    query = selecting(t.alert_history, AlertEvent).where(_H.alert_id == alert_id)
    return many(connection, AlertEvent, query.order_by(_H.id))


def counts(connection: Connection) -> list[tuple[str, int, str, int]]:
    """(vault id, severity, state, number) of alerts whose cause stands."""
    query = select(_C.vault_id, _C.severity, _C.state, func.count()).where(_IS_FIRED)
    grouped = connection.execute(query.group_by(_C.vault_id, _C.severity, _C.state))
    return [(vault, int(severity), state, int(count)) for vault, severity, state, count in grouped]


def remove_alerts_before(
    connection: Connection, before: datetime, events: Collection[str] = (), limit: int = 1000
) -> int:
    """Drop up to ``limit`` alerts that were over or closed before a time, or are of rules that are
    ``events`` and were met last before it; with their history."""
    ended = or_(_C.state == "Closed", _C.rule.in_(events)) & (_C.last_at < before)
    over = or_(_C.resolved_at < before, ended)
    ids = list(connection.execute(select(_C.id).where(over).limit(limit)).scalars())
    if ids:
        remove(connection, t.alert_history, _H.alert_id.in_(ids))
        remove(connection, t.alerts, _C.id.in_(ids))
    return len(ids)


def remove_alerts_of_vault(connection: Connection, vault_id: str) -> None:
    """All that is known of a vault's alerts; messages not yet sent are still sent."""
    ids = select(_C.id).where(_C.vault_id == vault_id)
    remove(connection, t.alert_history, _H.alert_id.in_(ids))
    remove(connection, t.alerts, _C.vault_id == vault_id)
    remove(connection, t.alert_settings, t.alert_settings.c.vault_id == vault_id)


def get_settings(connection: Connection, vault_id: str) -> AlertSettings | None:
    query = selecting(t.alert_settings, AlertSettings)
    return one(connection, AlertSettings, query.where(t.alert_settings.c.vault_id == vault_id))


def put_settings(connection: Connection, row: AlertSettings) -> None:
    remove(connection, t.alert_settings, t.alert_settings.c.vault_id == row.vault_id)
    insert(connection, t.alert_settings, row)
