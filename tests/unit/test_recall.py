"""Answers of the catalog are kept between two changes, and no longer."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from holdfast.catalog.database import Catalog
from holdfast.catalog.recall import MOST, SECONDS, Recall


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog.open(f"sqlite:///{tmp_path / 'c.sqlite'}")
    with made.write() as connection:
        connection.execute(text("create table one (value integer)"))
        connection.execute(text("insert into one values (1)"))
    return made


def value(connection: Connection) -> int:
    return int(connection.execute(text("select value from one")).scalar_one())


def put(catalog: Catalog, number: int) -> None:
    with catalog.write() as connection:
        connection.execute(text("update one set value = :number"), {"number": number})


def test_an_answer_is_asked_for_once_between_two_changes(catalog: Catalog) -> None:
    asked = count(1)

    def ask(connection: Connection) -> tuple[int, int]:
        return value(connection), next(asked)

    assert [catalog.recall("one", ask) for _ in range(3)] == [(1, 1)] * 3
    put(catalog, 2)
    assert catalog.recall("one", ask) == (2, 2)


def test_a_change_that_comes_while_it_is_asked_is_not_hidden(catalog: Catalog) -> None:
    def ask_and_change(connection: Connection) -> int:
        old = value(connection)
        put(catalog, 7)
        return old

    assert catalog.recall("one", ask_and_change) == 1
    assert catalog.recall("one", value) == 7


def test_a_change_that_failed_costs_a_question_and_hides_nothing(catalog: Catalog) -> None:
    assert catalog.recall("one", value) == 1
    with pytest.raises(ZeroDivisionError), catalog.write() as connection:
        connection.execute(text("update one set value = 5"))
        _ = 1 // 0
    assert catalog.recall("one", value) == 1


def test_what_another_program_writes_is_seen_within_a_second() -> None:
    now = [0.0]
    recall = Recall(lambda: now[0])
    assert recall.get("a", lambda: 1) == 1
    now[0] = SECONDS - 0.01
    assert recall.get("a", lambda: 2) == 1
    now[0] = SECONDS
    assert recall.get("a", lambda: 2) == 2


def test_it_does_not_grow_without_end() -> None:
    recall = Recall(lambda: 0.0)
    for key in range(3 * MOST):
        recall.get(key, lambda: 0)
    assert len(recall._known) <= MOST
