"""Messages about alerts, from the moment they are due until they were taken by somebody.

A message is written in the transaction that raises its alert, first without a channel. The sender
routes it to the channels there are, then claims one at a time: a claim is lost with its process, so
a message is sent at least once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, case, func, select, text

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert_many, many, remove, selecting, update

UNROUTED = ""
PENDING, SENT, GIVEN_UP = "Pending", "Sent", "GivenUp"


@dataclass(frozen=True, slots=True)
class MessageRow:
    """``event``: fired | resolved. ``channel``: "" (not routed yet) | email | webhook; ``target``:
    the address, or a webhook's name. ``message``: what is said. ``claimed_by``: the server that is
    sending it."""

    id: int
    vault_id: str
    alert_id: str
    event: str
    channel: str
    target: str
    message: dict[str, Any]
    state: str
    attempts: int
    claimed_by: str
    last_error: str
    due_at: datetime
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages of a channel not sent yet. ``failing``: those tried in vain at least once."""

    channel: str
    count: int
    failing: int
    oldest: datetime
    last_error: str


_C = t.notifications.c
_ALL = selecting(t.notifications, MessageRow)
_UNSENT = cast("ColumnElement[bool]", text(t.UNSENT_SQL))


def add_message(
    connection: Connection,
    *,
    vault_id: str,
    alert_id: str,
    event: str,
    message: dict[str, Any],
    now: datetime,
    channel: str = UNROUTED,
    target: str = "",
    created_at: datetime | None = None,
) -> None:
    values = {
        "vault_id": vault_id,
        "alert_id": alert_id,
        "event": event,
        "channel": channel,
        "target": target,
        "message": message,
        "state": PENDING,
        "attempts": 0,
        "claimed_by": "",
        "last_error": "",
        "due_at": now,
        "created_at": created_at or now,
        "ended_at": None,
    }
    insert_many(connection, t.notifications, [values])


def unrouted(connection: Connection, limit: int = 100) -> list[MessageRow]:
    """Oldest first. On PostgreSQL those another server routes are passed over."""
    query = _ALL.where(_UNSENT, _C.channel == UNROUTED).order_by(_C.id).limit(limit)
    return many(connection, MessageRow, query.with_for_update(skip_locked=True))


def has_due(connection: Connection, now: datetime, channel: str = UNROUTED) -> bool:
    query = select(_C.id).where(_UNSENT, _C.channel == channel, _C.due_at <= now).limit(1)
    return connection.execute(query).first() is not None


def due_messages(
    connection: Connection,
    channel: str,
    now: datetime,
    limit: int = 50,
    without: Collection[str] = (),
) -> list[MessageRow]:
    """Of one channel, longest due first; those to targets ``without`` are passed over."""
    query = _ALL.where(_UNSENT, _C.channel == channel, _C.due_at <= now)
    query = query.where(_C.target.not_in(without))
    return many(connection, MessageRow, query.order_by(_C.due_at, _C.id).limit(limit))


def claim(connection: Connection, row: MessageRow, driver: str, until: datetime) -> bool:
    """Take a message for sending; False when another server was faster. It is due again at
    ``until`` if nothing more is heard."""
    values = {"claimed_by": driver, "due_at": until}
    where = (_C.id == row.id, _UNSENT, _C.due_at == row.due_at)
    return update(connection, t.notifications, values, *where) == 1


def release_claims(connection: Connection, driver: str, now: datetime) -> int:
    """What this server was sending when it died is due at once."""
    values = {"claimed_by": "", "due_at": now}
    return update(connection, t.notifications, values, _UNSENT, _C.claimed_by == driver)


def end_message(connection: Connection, message_id: int, state: str, now: datetime) -> None:
    values = {"state": state, "ended_at": now, "claimed_by": ""}
    update(connection, t.notifications, values, _C.id == message_id)


def put_off(connection: Connection, row: MessageRow, due_at: datetime, error: str) -> None:
    """It was tried in vain; try again later."""
    values = {"claimed_by": "", "due_at": due_at, "last_error": error}
    update(connection, t.notifications, {**values, "attempts": row.attempts + 1}, _C.id == row.id)


def pull_tried(
    connection: Connection, channel: str, now: datetime, target: str | None = None
) -> int:
    """Let what was put off be due: the channel, or one target of it, works again."""
    where = [_UNSENT, _C.channel == channel, _C.claimed_by == "", _C.due_at > now]
    where += [_C.target == target] if target is not None else []
    return update(connection, t.notifications, {"due_at": now}, *where)


def pull_due(connection: Connection, beyond: datetime, now: datetime) -> int:
    """Bring back messages that a clock that was ahead once had put off."""
    return update(connection, t.notifications, {"due_at": now}, _UNSENT, _C.due_at > beyond)


def give_up(connection: Connection, before: datetime, now: datetime) -> int:
    """End what could not be sent since ``before``; how many."""
    values = {"state": GIVEN_UP, "ended_at": now, "claimed_by": ""}
    return update(connection, t.notifications, values, _UNSENT, _C.created_at < before)


def remove_message(connection: Connection, message_id: int) -> int:
    return remove(connection, t.notifications, _C.id == message_id)


def waiting(connection: Connection) -> list[Waiting]:
    """What waits, by channel."""
    tried = func.sum(case((_C.attempts > 0, 1), else_=0))
    query = select(
        _C.channel, func.count(), tried, func.min(_C.created_at), func.max(_C.last_error)
    ).where(_UNSENT)
    rows = connection.execute(query.group_by(_C.channel).order_by(_C.channel))
    return [Waiting(name, int(count), int(bad), at, last) for name, count, bad, at, last in rows]


def ended_counts(connection: Connection) -> list[tuple[str, str, int]]:
    """(channel, state, number) of messages that are over and still kept."""
    query = select(_C.channel, _C.state, func.count()).where(_C.state != PENDING)
    rows = connection.execute(query.group_by(_C.channel, _C.state))
    return [(channel, state, int(count)) for channel, state, count in rows]


def failing(connection: Connection) -> bool:
    """Whether some message was tried in vain and still waits."""
    query = select(_C.id).where(_UNSENT, _C.attempts > 0).limit(1)
    return connection.execute(query).first() is not None


def messages_of(connection: Connection, alert_id: str) -> list[MessageRow]:
    """In the order they were made."""
    return many(connection, MessageRow, _ALL.where(_C.alert_id == alert_id).order_by(_C.id))


def remove_messages_before(connection: Connection, before: datetime) -> int:
    return remove(connection, t.notifications, _C.ended_at < before)
