"""Azure's published descriptions of its REST API, as facts to hold answers against.

``Contract`` reads what tools/distil_swagger.py wrote. It says which operation a request is, and
where an answer departs from what that operation declares: the status, fields that are missing or
unknown, kinds, formats, words of enumerations, subtypes by their discriminators.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

OURS = "holdfast"  # the one field we add beside Azure's; what is in it is ours
KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
FORMATS: Mapping[str, re.Pattern[str]] = {
    "date-time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"),
    "duration": re.compile(r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?"),
    "byte": re.compile(r"[A-Za-z0-9+/]*={0,2}"),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
}
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Deviation:
    """``what`` is wrong at ``field`` of ``of`` (a definition, or an operation and "status")."""

    of: str
    field: str
    what: str
    value: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.of}.{self.field}: {self.what}{self.value and ': '}{self.value}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, and what reads the definitions of its document."""

    facts: Schema
    reader: Reader

    @property
    def id(self) -> str:
        return str(self.facts["id"])

    @property
    def body(self) -> Schema | None:
        return self.facts.get("body")

    def deviations(
        self, status: int, headers: Mapping[str, str], content: bytes
    ) -> Iterator[Deviation]:
        """Where an answer departs from what is declared."""
        declared = self.facts["answers"]
        key = str(status) if str(status) in declared else "default"
        if key not in declared and status >= 400:
            return  # some operations declare no error, which may still happen
        if key not in declared or (key == "default" and status < 400):
            yield Deviation(self.id, "status", f"{status} is not declared")
            return
        if status == 202 and self.facts.get("long") and not _is_followed(headers):
            yield Deviation(self.id, "status", "202 without a word where to ask")
        schema = declared[key]
        if schema is None and content:
            yield Deviation(self.id, "body", f"{status} has one", content[:100].decode())
        elif schema is not None and not content:
            yield Deviation(self.id, "body", f"{status} has none")
        elif schema is not None:
            yield from self.reader.read(json.loads(content), schema, (self.id, "body"))


def _is_followed(headers: Mapping[str, str]) -> bool:
    names = {name.lower() for name in headers}
    return bool(names & {"azure-asyncoperation", "location"})


class Reader:
    """Values against schemas of one document. ``known``: its definitions."""

    def __init__(self, known: Mapping[str, Schema]) -> None:
        self.known = known
        self.discriminator = cache(self._discriminator)
        self.subtype = cache(self._subtype)
        self.whole = cache(self._whole)

    def read(self, value: Any, schema: Schema, at: tuple[str, str]) -> Iterator[Deviation]:
        """Where ``value`` departs; ``at``: the definition and field that hold it."""
        if "$ref" in schema:
            name = schema["$ref"]
            if name in self.known:  # not one of another document
                yield from self._defined(value, name, at)
            return
        kind = schema.get("type", "object" if "properties" in schema else "")
        if kind and not _is_a(value, kind):
            yield Deviation(*at, f"is no {kind}", repr(value)[:100])
        elif kind == "array":
            for one in value:
                yield from self.read(one, schema.get("items", {}), at)
        elif kind == "object":
            yield from self._fields(value, schema, ".".join(at))
        else:
            yield from _plain(value, schema, at)

    def _defined(self, value: Any, name: str, at: tuple[str, str]) -> Iterator[Deviation]:
        found = self.known[name]
        if found.get("type", "object") != "object" or not isinstance(value, dict):
            yield from self.read(value, {"type": "object", **found}, at)
            return
        by = self.discriminator(name)
        if by and by in value:
            subtype = self.subtype(name, str(value[by]))
            if subtype is None:
                yield Deviation(name, by, "names no kind", repr(value[by])[:100])
            name = subtype or name
        yield from self._fields(value, self.whole(name), name)

    def _discriminator(self, name: str) -> str:
        """The field that says which subtype of a definition a value is; "" without one."""
        found = self.known[name]
        if "discriminator" in found:
            return str(found["discriminator"])
        return next(filter(None, map(self.discriminator, self.bases(name))), "")

    def bases(self, name: str) -> list[str]:
        above = (one.get("$ref", "") for one in self.known[name].get("allOf", []))
        return [one for one in above if one in self.known]

    def _subtype(self, name: str, word: str) -> str | None:
        """The definition below (or at) ``name`` that ``word`` stands for."""
        for one, found in self.known.items():
            if found.get("value", one) == word and name in self.lineage(one):
                return one
        return None

    def lineage(self, name: str) -> list[str]:
        """A definition and all above it."""
        return [name, *(one for base in self.bases(name) for one in self.lineage(base))]

    def _whole(self, name: str) -> Schema:
        """A definition with what it inherits."""
        properties: dict[str, Any] = {}
        required: set[str] = set()
        made: dict[str, Any] = {}
        for one in reversed(self.lineage(name)):
            found = self.known[one]
            properties |= found.get("properties", {})
            required |= set(found.get("required", ()))
            made |= {key: found[key] for key in ("additionalProperties",) if key in found}
        return {**made, "properties": properties, "required": sorted(required)}

    def _fields(self, value: Mapping[str, Any], schema: Schema, of: str) -> Iterator[Deviation]:
        declared, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name in schema.get("required", ()):
            if value.get(name) is None:
                yield Deviation(of, name, "is missing")
        for name, one in value.items():
            if name in declared:
                if one is not None:  # as if it were absent, as Azure itself writes it
                    yield from self.read(one, declared[name], (of, name))
            elif isinstance(others, dict):
                yield from self.read(one, others, (of, "*"))
            elif name != OURS and not others and (declared or "properties" in schema):
                yield Deviation(of, name, "is not declared", repr(one)[:100])


def _is_a(value: Any, kind: str) -> bool:
    is_flag = isinstance(value, bool)
    return isinstance(value, KINDS[kind]) and (kind == "boolean" or not is_flag)


def _plain(value: Any, schema: Schema, at: tuple[str, str]) -> Iterator[Deviation]:
    if "enum" in schema and value not in schema["enum"]:
        yield Deviation(*at, "is none of the words", repr(value)[:100])
    shape = FORMATS.get(schema.get("format", ""))
    if shape and isinstance(value, str) and not shape.fullmatch(value):
        yield Deviation(*at, f"is no {schema['format']}", repr(value)[:100])
    if len(str(value)) > schema.get("maxLength", len(str(value))):
        yield Deviation(*at, f"is longer than {schema['maxLength']}")


class Contract:
    """Every operation and example of the facts at ``path``."""

    def __init__(self, path: Path) -> None:
        facts = json.loads(path.read_text())
        self.operations: dict[str, Operation] = {}
        self.examples: list[Schema] = []
        self._by_shape: dict[tuple[str, int], list[tuple[list[str], Operation]]] = defaultdict(list)
        for document in facts["documents"].values():
            self.examples += document["examples"]
            reader = Reader(document["definitions"])
            for one in document["operations"]:
                self._add(Operation(one, reader))
        for rows in self._by_shape.values():  # those that name more come first
            rows.sort(key=lambda row: sum(part.startswith("{") for part in row[0]))

    def _add(self, operation: Operation) -> None:
        self.operations[operation.id] = operation
        parts = _parts(operation.facts["path"])
        self._by_shape[operation.facts["method"], len(parts)].append((parts, operation))

    def find(self, method: str, path: str) -> Operation | None:
        """The operation a request is; None for what is not Azure's."""
        parts = _parts(path)
        for pattern, operation in self._by_shape.get((method, len(parts)), ()):
            if all(map(_fits, pattern, parts)):
                return operation
        return None


def _parts(path: str) -> list[str]:
    """A path in small letters, but for what ``{names}`` stand for; empty names are left out."""
    found = (unquote(part) for part in path.split("/") if part)
    return [part if part.startswith("{") else part.lower() for part in found]


def _fits(pattern: str, part: str) -> bool:
    return pattern == part or pattern.startswith("{")
