"""Bodies that are wrong in one place each, made from the structs that describe right ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect as kinds

OTHER_KINDS: tuple[Any, ...] = (7, "text", True, [1], {"a": 1}, 1.5)
RAW: dict[str, bytes] = {
    "no bytes": b"",
    "no JSON": b"{",
    "a list": b"[1]",
    "a number": b"3",
    "null": b"null",
    "a text": b'"x"',
    "what follows": b"{}{}",
    "no number": b'{"properties": NaN}',
    "a name twice": b'{"properties": {"a": 1, "a": 2}}',
    "half a character": b'{"properties": "\xff"}',
    "another encoding": '{"properties": {}}'.encode("utf-16"),
    "half a pair": b'{"properties": "\\ud800", "name": "\\ud800"}',
    "a NUL": b'{"properties": "\\u0000"}',
    "a deep nest": b'{"properties":' * 50_000 + b"1" + b"}" * 50_000,
    "deep lists": b'{"properties":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """``what`` is wrong ``at`` one place of ``body``."""

    at: str
    what: str
    body: Any

    def __str__(self) -> str:
        return f"{self.at}: {self.what}"


def faults_of(kind: Any) -> Iterator[Fault]:
    """Wrong kinds, unknown and misspelt words, texts and lists too long, what is missing."""
    yield from _faults(kinds.type_info(kind), "")


def _faults(kind: kinds.Type, at: str) -> Iterator[Fault]:
    if isinstance(kind, kinds.UnionType):
        inner = [one for one in kind.types if not isinstance(one, kinds.NoneType)]
        yield from _faults(inner[0], at)
    elif isinstance(kind, kinds.Metadata):
        yield from _faults(kind.type, at)
    elif isinstance(kind, kinds.StructType):
        yield from _wrong_kinds(kind, at)
        for field in kind.fields:
            yield from _in_field(kind, field, at)
    elif not isinstance(kind, kinds.AnyType):
        yield from _wrong_kinds(kind, at)
        yield from _too_much(kind, at)


def _in_field(holder: kinds.StructType, field: kinds.Field, at: str) -> Iterator[Fault]:
    here = f"{at}.{field.encode_name}".lstrip(".")
    beside = {
        one.encode_name: sample(one.type)
        for one in holder.fields
        if one.required and one is not field
    }
    for fault in _faults(field.type, here):
        yield Fault(fault.at, fault.what, {**beside, field.encode_name: fault.body})
    if field.required:
        yield Fault(here, "is missing", beside)
        yield Fault(here, "is null", {**beside, field.encode_name: None})


def _wrong_kinds(kind: kinds.Type, at: str) -> Iterator[Fault]:
    if not at:
        return
    for value in OTHER_KINDS:
        if not _fits(kind, value):
            yield Fault(at, f"is {value!r}", value)


def _fits(kind: kinds.Type, value: Any) -> bool:
    try:
        msgspec.convert(value, _plain(kind))
    except msgspec.ValidationError:
        return False
    return True


def _plain(kind: kinds.Type) -> Any:
    """A type that takes values of the same JSON kind."""
    if isinstance(kind, kinds.StructType | kinds.DictType):
        return dict
    if isinstance(kind, kinds.ListType):
        return list
    if isinstance(kind, kinds.LiteralType):
        return type(kind.values[0])
    known = {kinds.StrType: str, kinds.IntType: int, kinds.BoolType: bool, kinds.FloatType: float}
    return known[type(kind)]


def _too_much(kind: kinds.Type, at: str) -> Iterator[Fault]:
    if isinstance(kind, kinds.LiteralType) and isinstance(kind.values[0], str):
        yield Fault(at, "is an unknown word", "Unknown")
        wrong = str(kind.values[-1]).swapcase()
        yield Fault(at, "is a word in the wrong case", wrong)
    elif isinstance(kind, kinds.StrType) and kind.max_length is not None:
        yield Fault(at, "is too long", "x" * (kind.max_length + 1))
    elif isinstance(kind, kinds.DictType):
        for fault in _faults(kind.value_type, f"{at}.a"):
            yield Fault(fault.at, fault.what, {"a": fault.body})
        for fault in _faults(kind.key_type, f"{at} (a key)"):
            if isinstance(fault.body, str):
                yield Fault(fault.at, fault.what, {fault.body: sample(kind.value_type)})
    elif isinstance(kind, kinds.ListType):
        for fault in _faults(kind.item_type, f"{at}[]"):
            yield Fault(fault.at, fault.what, [fault.body])


def sample(kind: kinds.Type) -> Any:
    """Something that fits."""
    if isinstance(kind, kinds.Metadata):
        return sample(kind.type)
    if isinstance(kind, kinds.UnionType):
        return sample(kind.types[0])
    if isinstance(kind, kinds.StructType):
        return {one.encode_name: sample(one.type) for one in kind.fields if one.required}
    if isinstance(kind, kinds.LiteralType):
        return kind.values[0]
    if isinstance(kind, kinds.IntType):
        return kind.ge or 1
    return (
        [] if isinstance(kind, kinds.ListType) else {} if isinstance(kind, kinds.DictType) else "a"
    )
