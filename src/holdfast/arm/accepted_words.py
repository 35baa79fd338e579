"""Which words a field of a request body takes: for the one who sent another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import inspect

_WRONG_WORD = re.compile(r"Invalid enum value .* - at `\$(?P<way>[^`]*)`$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[[^\]]*\]")


def words_after(error: str, kind: Any) -> list[str]:
    """The words that the field takes which msgspec names in ``error`` for not being one of them;
    none when the error is another. ``kind`` is what the whole body should have been."""
    found = _WRONG_WORD.search(error)
    if found is None:
        return []
    kinds = list(_alternatives(inspect.type_info(kind)))
    for step in _STEP.finditer(found["way"]):
        kinds = [inner for outer in kinds for inner in _inside(outer, step["name"])]
    words = [word for one in kinds if isinstance(one, inspect.LiteralType) for word in one.values]
    return sorted({str(word) for word in words})


def _inside(outer: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """Of what a field is, or an element where there is no name."""
    if isinstance(outer, inspect.StructType):
        for field in outer.fields:
            if field.encode_name == name:
                yield from _alternatives(field.type)
    elif isinstance(outer, inspect.DictType):
        yield from _alternatives(outer.value_type)
    elif isinstance(outer, inspect.ListType):
        yield from _alternatives(outer.item_type)


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _alternatives(one)
    elif isinstance(kind, inspect.Metadata):
        yield from _alternatives(kind.type)
    else:
        yield kind
