"""A vault in S3 whose objects are moved away or replaced by an older copy costs no point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.object_store import open_store
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.grounds import S3_URL, Ground, ground
from holdfast.testing.servers import S3Service
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT

NOW = ("backup", "now", "--item", ITEM, "--container", HOST, "--wait")


@pytest.fixture
def yard(tmp_path: Path, s3_service: S3Service) -> Iterator[Ground]:
    """One recovery point of one file."""
    with ground("sqlite-s3", tmp_path, {}, s3=s3_service) as made:
        source = a_source(made, "first", "one")
        made.world.protect(source)
        made.world.back_up()
        yield made


def a_source(yard: Ground, name: str, text: str) -> Path:
    source = yard.world.folder / "src"
    source.mkdir(exist_ok=True)
    (source / name).write_text(text * 5000)
    return source


def elsewhere(yard: Ground, name: str) -> ObjectStore:
    assert yard.s3 is not None
    return open_store(f"{S3_URL}/{yard.world.folder.name}-{name}", yard.s3.credentials)


def keys(store: ObjectStore) -> dict[str, int]:
    return {found.key: found.size for found in store.list("")}


def copy(source: ObjectStore, target: ObjectStore) -> None:
    for key in keys(source):
        target.create(key, source.read(key))


def empty(store: ObjectStore) -> None:
    for key in keys(store):
        store.delete(key)


def restored(yard: Ground, point: str) -> dict[str, bytes]:
    target = yard.world.folder / f"to-{point}"
    yard.world.restore(target, point=point)
    place = target / str(yard.world.folder / "src").lstrip("/")
    return {path.name: path.read_bytes() for path in place.iterdir()}


def sources(yard: Ground) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (yard.world.folder / "src").iterdir()}


def show(yard: Ground) -> dict[str, Any]:
    body: dict[str, Any] = yard.world.ask("vault", "show", VAULT, "-g", GROUP)
    found: dict[str, Any] = body["properties"]["holdfast"]
    return found


def test_a_vault_moved_in_its_bucket_takes_nothing_until_it_is_back(yard: Ground) -> None:
    world, store, away = yard.world, yard.store(), elsewhere(yard, "away")
    before = sources(yard)
    copy(store, away)
    empty(store)
    moved = keys(away)
    a_source(yard, "second", "two")
    for words in (NOW, ("vault", "verify", VAULT, "-g", GROUP)):
        answer = world.cli(*words)
        shown = answer.out + answer.err
        assert answer.code == 1, shown
        assert "VaultStoreMissing" in shown
        assert "what to do" in shown.lower()
        assert "Traceback" not in shown
        assert keys(store) == {}, "a second vault would begin"
    assert keys(away) == moved
    copy(away, store)
    assert world.back_up().code == 0
    newest, oldest = (str(point["name"]) for point in world.points())
    assert restored(yard, newest) == sources(yard)
    assert restored(yard, oldest) == before
    assert world.cli("vault", "verify", VAULT, "-g", GROUP).code == 0


def test_an_older_copy_in_the_bucket_is_told_and_the_newest_brings_all_back(yard: Ground) -> None:
    world, store = yard.world, yard.store()
    older, newest = elsewhere(yard, "older"), elsewhere(yard, "newest")
    copy(store, older)
    a_source(yard, "second", "two")
    world.back_up()
    lost, kept = (str(point["name"]) for point in world.points())
    copy(store, newest)
    empty(store)
    copy(older, store)
    answer = world.cli(*NOW)
    assert answer.code == 1
    assert "LogCut" in answer.out + answer.err

    world.stop_server()
    world.start_server()
    said = show(yard)
    assert [one["id"] for one in said["lostRecoveryPoints"]] == [lost]
    assert any(lost in warning and ITEM in warning for warning in said["warnings"])
    assert [point["name"] for point in world.points()] == [kept]

    world.stop_server()
    empty(store)
    copy(newest, store)
    world.start_server()
    assert show(yard)["lostRecoveryPoints"] == []
    assert [point["name"] for point in world.points()] == [lost, kept]
    assert restored(yard, lost) == sources(yard)
