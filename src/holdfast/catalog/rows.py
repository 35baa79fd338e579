"""Rows as frozen dataclasses whose field names are the table's columns, and pages of them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, delete, select, tuple_
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_table
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.errors import UsageError

Row = TypeVar("Row")
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows and the token that continues after them; "" when there are no more."""

    rows: list[Row]
    next_token: str = ""


def selecting(table: Table, kind: Any) -> Select[Any]:
    """A select of exactly the columns the dataclass ``kind`` has, in its order."""
    return select(*(table.c[field.name] for field in fields(kind)))


def many(connection: Connection, kind: type[Row], query: Select[Any]) -> list[Row]:
    return [kind(*row) for row in connection.execute(query)]


def one(connection: Connection, kind: type[Row], query: Select[Any]) -> Row | None:
    row = connection.execute(query.limit(1)).first()
    return None if row is None else kind(*row)


def insert(connection: Connection, table: Table, row: Any) -> None:
    """Insert a dataclass; a column it lacks takes its default."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    connection.execute(insert_into(table), values)


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(insert_into(table), list(rows))


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless it collides with one; False when it does."""
    kind = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    (key, *_) = table.primary_key.columns
    adding = kind(table).values(**values).on_conflict_do_nothing().returning(key)
    return connection.execute(adding).first() is not None


def update(
    connection: Connection, table: Table, values: Mapping[str, Any], *where: ColumnElement[bool]
) -> int:
    """Set columns of the rows that match; the number of rows changed."""
    return connection.execute(update_table(table).where(*where).values(**values)).rowcount


def remove(connection: Connection, table: Table, *where: ColumnElement[bool]) -> int:
    """Delete the rows that match; their number."""
    return connection.execute(delete(table).where(*where)).rowcount


def page(
    connection: Connection,
    kind: type[Row],
    query: Select[Any],
    *,
    keys: Sequence[Column[Any]],
    descending: bool = False,
    limit: int = 100,
    token: str = "",
) -> Page[Row]:
    """One page by keyset: ordered by ``keys`` (whose last makes a row unique), after ``token``."""
    limit = max(1, min(limit, MAX_PAGE))
    if token:
        after = tuple_(*keys)
        found = tuple_(*_key_values(token, keys), types=[key.type for key in keys])
        query = query.where(after < found if descending else after > found)
    order = [key.desc() if descending else key.asc() for key in keys]
    rows = many(connection, kind, query.order_by(*order).limit(limit + 1))
    if len(rows) <= limit:
        return Page(rows)
    last = rows[limit - 1]
    return Page(rows[:limit], encode_token([getattr(last, key.name) for key in keys]))


def encode_token(values: Sequence[object]) -> str:
    """An opaque token for a key of texts, numbers and times."""
    shaped = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps(shaped).encode()).decode().rstrip("=")


def _key_values(token: str, keys: Sequence[Column[Any]]) -> list[Any]:
    """The key a token holds, typed as its columns. UsageError (InvalidSkipToken)."""
    try:
        padded = token + "=" * (-len(token) % 4)
        values = json.loads(base64.urlsafe_b64decode(padded))
        if not isinstance(values, list) or len(values) != len(keys):
            raise ValueError
        return [_typed(value, key) for value, key in zip(values, keys, strict=True)]
    except (ValueError, binascii.Error, TypeError) as error:
        raise UsageError(
            "the continuation token is not one this server gave",
            code="InvalidSkipToken",
            hint="Use the nextLink of the previous page unchanged, or start the list again.",
        ) from error


def _typed(value: Any, key: Column[Any]) -> Any:
    kind = key.type.python_type
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError
        return moment
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError
    return value
