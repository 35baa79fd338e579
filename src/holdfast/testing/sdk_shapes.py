"""Whether an answer is what the SDK's typed models say: names, kinds and enum spellings.

The models read leniently: a misspelt name is silently None and a misspelt enum stays a text. Here
every declared field is read and compared with its annotation, and every name on the wire must be
declared.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from holdfast.testing.departures import added_fields

OURS = frozenset({"holdfast"})
PACKAGES = ("azure.mgmt.recoveryservicesbackup.models", "azure.mgmt.recoveryservices.models")


class Field(NamedTuple):
    """One value as the SDK reads it, and as it was on the wire (where "7" and 7 differ)."""

    read: Any
    raw: Any


def check_shape(model: Any) -> None:
    """AssertionError that names each field that is not as its model says."""
    assert hasattr(model, "_attr_to_rest_field"), f"{model!r} is no model"
    wrong = list(_model(model, type(model).__name__))
    assert wrong == [], "\n".join(wrong)


def _model(model: Any, where: str) -> Iterator[str]:
    fields = type(model)._attr_to_rest_field
    known = {field._rest_name for field in fields.values()} | OURS
    known |= added_fields(type(model).__name__)
    yield from (f"{where}: {key} is not declared" for key in model if key not in known)
    hints = _hints(type(model))
    for name, field in fields.items():
        found = Field(getattr(model, name), model.get(field._rest_name))
        if found.read is None and _is_needed(hints.get(name, Any)):
            yield f"{where}.{name}: is missing"
        yield from _value(found, hints.get(name, Any), f"{where}.{name}")


def _is_needed(hint: Any) -> bool:
    """What is always there is declared without None; discriminators are."""
    return hint is not Any and "Optional[" not in str(hint) and "None" not in str(hint)


def _hints(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        found.update(vars(base).get("__annotations__", {}))
    return found


def _value(found: Field, hint: Any, where: str) -> Iterator[str]:
    hint = _resolved(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    value = found.read
    if value is None or hint is Any:
        return
    if origin in (typing.Union, types.UnionType):
        yield from _one_of(found, [_resolved(one) for one in inner if one is not type(None)], where)
    elif origin is list and isinstance(value, list):
        for number, (one, raw) in enumerate(zip(value, found.raw, strict=True)):
            yield from _value(Field(one, raw), inner[0], f"{where}[{number}]")
    elif origin is dict and isinstance(value, Mapping):
        for key, one in value.items():
            yield from _value(Field(one, found.raw[key]), inner[1], f"{where}[{key}]")
    elif hasattr(value, "_attr_to_rest_field"):
        yield from _model(value, where)
    elif not _fits(found, hint):
        yield f"{where}: {found.raw!r} is no {hint}"


def _one_of(found: Field, hints: list[Any], where: str) -> Iterator[str]:
    """``Union[str, SomeEnum]`` means one of the enum's values."""
    enums = [one for one in hints if isinstance(one, type) and issubclass(one, Enum)]
    if not enums:
        yield from _value(found, hints[0], where)
    elif found.read not in [one.value for enum in enums for one in enum]:
        yield f"{where}: {found.read!r} is none of {[one.value for one in enums[0]]}"


def _resolved(hint: Any) -> Any:
    """What a name stands for, which annotations hold as text."""
    if not isinstance(hint, str | typing.ForwardRef):
        return hint
    text = hint if isinstance(hint, str) else hint.__forward_arg__
    for package in PACKAGES:
        found = getattr(sys.modules.get(package), text.rpartition(".")[2], None)
        if found is not None:
            return found
    raise AssertionError(f"the annotation {text} is not understood")


def _fits(found: Field, hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return found.raw in typing.get_args(hint)
    if hint is float:
        return isinstance(found.raw, int | float)
    if hint in (datetime, timedelta):
        return isinstance(found.read, hint)
    if hint in (str, int):
        return isinstance(found.raw, hint) and not isinstance(found.raw, bool)
    return isinstance(hint, type) and isinstance(found.raw, hint)
