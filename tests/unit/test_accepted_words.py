"""Whoever sends an unknown word in a body is told the words of that field, wherever it lies."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from holdfast.arm.accepted_words import words_after


class Inner(msgspec.Struct, rename="camel"):
    how_much: Literal["All", "Some"] | None = None


class Outer(msgspec.Struct, rename="camel"):
    one: Inner | None = None
    rows: list[Inner] | None = None
    named: dict[str, Inner] | None = None
    words: list[Literal["b", "a"]] | None = None
    count: int | None = None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"one": {"howMuch": "all"}}, ["All", "Some"]),
        ({"rows": [{}, {"howMuch": "x ` - at `$.one`"}]}, ["All", "Some"]),
        ({"named": {"k": {"howMuch": ""}}}, ["All", "Some"]),
        ({"words": ["a", "c"]}, ["a", "b"]),
        ({"count": "1"}, []),
        ({"one": {"howMuch": 5}}, []),
    ],
)
def test_the_words_of_the_field(body: Any, words: list[str]) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(body, Outer)
    assert words_after(str(error.value), Outer) == words
