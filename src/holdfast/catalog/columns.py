"""What all tables share: the metadata with its naming rules, and column types for both engines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, Integer, MetaData, String
from sqlalchemy.types import TypeDecorator

PREFIX = "hf_"
ID_CHARS = 36

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes to the microsecond. A naive value is a defect and raises ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a naive time {value!r} was given to the catalog")
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BIG = BigInteger().with_variant(Integer, "sqlite")
DOCUMENT = JSON(none_as_null=True)


def identifier(
    name: str = "id", *, primary_key: bool = False, nullable: bool = False
) -> Column[str]:
    """A lower-case GUID in text form."""
    return Column(name, String(ID_CHARS), primary_key=primary_key, nullable=nullable)


def moment(name: str, *, nullable: bool = False, index: bool = False) -> Column[datetime]:
    return Column(name, UtcDateTime, nullable=nullable, index=index)


def document(name: str) -> Column[Any]:
    """A JSON object (or array); absent documents are stored as empty ones by the writer."""
    return Column(name, DOCUMENT, nullable=False)


def figure(name: str) -> Column[int]:
    """A count or a size in bytes."""
    return Column(name, BIG, nullable=False, default=0)
