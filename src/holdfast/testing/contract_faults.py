"""Bodies that are wrong in one place each, made from what Azure declares of a body and from an
example that is right."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from holdfast.testing.contract import Operation, Reader, Schema

OTHERS: Mapping[str, tuple[Any, ...]] = {
    "string": (7, True, ["a"], {"a": "b"}),
    "integer": ("7x", True, [1], {"a": 1}),
    "number": ("7x", True, [1], {"a": 1}),
    "boolean": ("maybe", 7, [True], {"a": True}),
    "array": ("a", 7, {"a": 1}),
    "object": ("a", 7, [1]),
}
LONG = "x" * 5_000  # more than any name, text or address may have


@dataclass(frozen=True, slots=True)
class Fault:
    """``what`` is wrong ``at`` one place of ``body``."""

    at: str
    what: str
    body: Any

    def __str__(self) -> str:
        return f"{self.at} {self.what}"


def faults(operation: Operation, example: Any, seen: set[str]) -> Iterator[Fault]:
    """Each place of ``example`` that is declared: of another kind, too long, a word that is none,
    a word in the wrong case; what is required missing, and null. Not those that are ``seen``
    already: of another example of the operation."""
    assert operation.body is not None
    for way, what, value in _wrong(operation.reader, operation.body, example, ()):
        fault = Fault(".".join(map(str, way)), what, changed(example, way, value))
        if str(fault) not in seen:
            seen.add(str(fault))
            yield fault


REMOVED = object()
Way = tuple[str | int, ...]
Wrong = tuple[Way, str, Any]


def changed(body: Any, way: Way, value: Any) -> Any:
    """A copy with ``value`` at ``way`` (REMOVED takes it away)."""
    if not way:
        return value
    found = copy.deepcopy(body)
    holder = found
    for step in way[:-1]:
        holder = holder[step]
    if value is REMOVED:
        del holder[way[-1]]
    else:
        holder[way[-1]] = value
    return found


def _wrong(reader: Reader, schema: Schema, value: Any, way: Way) -> Iterator[Wrong]:
    found = _resolved(reader, schema, value)
    kind = found.get("type", "object" if "properties" in found else "")
    if way and kind in OTHERS:  # a kind for each place, another one at the next
        others = OTHERS[kind]
        other = others[crc32(str(way).encode()) % len(others)]
        yield way, f"is {other!r}", other
    if kind == "string":
        yield from _wrong_text(found, value, way)
    elif kind == "array" and isinstance(value, list) and value:
        yield from _wrong(reader, found.get("items", {}), value[0], (*way, 0))
    elif isinstance(value, dict):
        yield from _wrong_fields(reader, found, value, way)


def _wrong_fields(
    reader: Reader, found: Schema, value: Mapping[str, Any], way: Way
) -> Iterator[Wrong]:
    for name in found.get("required", ()):
        if name in value:
            yield (*way, name), "is missing", REMOVED
            yield (*way, name), "is null", None
    for name, one in value.items():
        inner = found.get("properties", {}).get(name) or found.get("additionalProperties")
        if isinstance(inner, dict) and not inner.get("readOnly") and one is not None:
            yield from _wrong(reader, inner, one, (*way, name))


def _wrong_text(found: Schema, value: Any, way: Way) -> Iterator[Wrong]:
    yield way, "is too long", LONG
    if "enum" in found:
        yield way, "is an unknown word", "Unknown"
        yield way, "is a word in the wrong case", str(value).swapcase()
    elif found.get("format") == "date-time":
        yield way, "is no time", "yesterday"


def _resolved(reader: Reader, schema: Schema, value: Any) -> Schema:
    """The schema itself, or the whole definition it names, of the subtype ``value`` is."""
    name = schema.get("$ref", "")
    if name not in reader.known:
        return {} if name else schema
    by = reader.discriminator(name)
    if by and isinstance(value, dict) and by in value:
        name = reader.subtype(name, str(value[by])) or name
    found = reader.known[name]
    return {"type": found.get("type", "object"), **found, **reader.whole(name)}
