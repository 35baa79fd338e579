"""The rotation of dirty bitmaps: whatever is interrupted, no change is ever forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.adapters.hypervisor.qemu import bitmaps
from holdfast.adapters.hypervisor.qemu.bitmaps import Bitmap, bitmap_name
from holdfast.errors import UsageError
from holdfast.ports.hypervisor import Parent

MACHINE, LUN, NODE = "0d9a1f52-6f5c-4d1c-9a3d-0f8a4f6b7c10", 0, "disk0"


class Disk:
    """A disk that does what QEMU does with these actions; blocks are numbers."""

    def __init__(self) -> None:
        self.marked: dict[str, set[int]] = {}
        self.recording: set[str] = set()

    def write(self, block: int) -> None:
        for name in self.recording:
            self.marked[name].add(block)

    def transaction(self, actions: list[dict[str, Any]]) -> None:
        for action in actions:
            verb, data = action["type"].removeprefix("block-dirty-bitmap-"), action["data"]
            name = data["name"] if "name" in data else data["target"]
            if verb == "add":
                assert name not in self.marked
                self.marked[name] = set()
                self.recording.add(name)
            elif verb == "merge":
                self.marked[name] |= set().union(*(self.marked[one] for one in data["bitmaps"]))
            else:
                assert name in self.marked
                {"disable": self.recording.discard, "enable": self.recording.add}.get(
                    verb, self.recording.discard
                )(name)
                if verb == "remove":
                    del self.marked[name]

    def shown(self) -> list[Bitmap]:
        return [Bitmap(name, name in self.recording) for name in self.marked]


STEPS = st.sampled_from(("commit", "rollback", "lost before commit", "lost after commit"))


@given(st.lists(st.tuples(STEPS, st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))))
def test_an_increment_has_every_change_since_its_parent(
    runs: list[tuple[str, set[int], set[int]]],
) -> None:
    """A model of backups that end in each possible way, the guest writing before and meanwhile."""
    disk, committed, since = Disk(), None, set[int]()
    for number, (end, before, meanwhile) in enumerate(runs):
        for block in before:
            disk.write(block)
        since |= before
        disk.transaction(bitmaps.settle(NODE, disk.shown(), MACHINE, LUN, committed))
        parent = Parent(committed, "id") if committed else None
        name = bitmap_name(MACHINE, LUN, committed) if committed else ""
        old, why = bitmaps.choose(disk.shown(), name, parent, "id")
        assert (old is None) == (committed is None), why
        new, token = bitmap_name(MACHINE, LUN, f"t{number}"), f"t{number}"
        last = old.name if old else None
        disk.transaction(bitmaps.start(NODE, new, last, persistent=True))
        if last:
            assert disk.marked[last] >= since
        for block in meanwhile:
            disk.write(block)
        if end == "commit":
            disk.transaction(bitmaps.commit(NODE, last))
        elif end == "rollback":
            disk.transaction(bitmaps.rollback(NODE, new, last))
        if end in ("commit", "lost after commit"):
            committed, since = token, set(meanwhile)
        else:
            since |= meanwhile
    assert len(disk.marked) <= 2


def test_settling_twice_changes_nothing() -> None:
    disk = Disk()
    for token in ("a", "b"):
        new = bitmap_name(MACHINE, LUN, token)
        disk.transaction(bitmaps.start(NODE, new, None, persistent=True))
    disk.transaction(bitmaps.settle(NODE, disk.shown(), MACHINE, LUN, "a"))
    assert [one.name for one in disk.shown()] == [bitmap_name(MACHINE, LUN, "a")]
    assert bitmaps.settle(NODE, disk.shown(), MACHINE, LUN, "a") == []


NAME = bitmap_name(MACHINE, LUN, "a")


@pytest.mark.parametrize(
    ("shown", "parent", "why"),
    [
        ([Bitmap(NAME)], None, "first backup"),
        ([], Parent("a", "id"), "is gone"),
        ([Bitmap(NAME, inconsistent=True)], Parent("a", "id"), "is incomplete"),
        ([Bitmap(NAME, recording=False)], Parent("a", "id"), "was stopped by another"),
        ([Bitmap(NAME, busy=True)], Parent("a", "id"), "in use by another"),
        ([Bitmap(NAME)], Parent("a", "other"), "another image"),
        ([Bitmap(bitmap_name(MACHINE, 1, "a"))], Parent("a", "id"), "is gone"),
        ([Bitmap(bitmap_name("other", LUN, "a"))], Parent("a", "id"), "is gone"),
    ],
)
def test_a_doubtful_record_is_not_used(
    shown: list[Bitmap], parent: Parent | None, why: str
) -> None:
    found, said = bitmaps.choose(shown, NAME, parent, "id")
    assert found is None
    assert why in said


def test_bitmaps_of_others_are_left_alone() -> None:
    others = [Bitmap("libvirt-1"), Bitmap("mine", recording=False), Bitmap("x", inconsistent=True)]
    assert bitmaps.settle(NODE, others, MACHINE, LUN, "a") == []
    assert bitmaps.settle(NODE, others, MACHINE, LUN, None) == []


def test_an_incomplete_later_record_makes_the_stopped_one_useless() -> None:
    later = Bitmap(bitmap_name(MACHINE, LUN, "b"), inconsistent=True)
    actions = bitmaps.settle(NODE, [Bitmap(NAME, recording=False), later], MACHINE, LUN, "a")
    assert {action["data"]["name"] for action in actions} == {NAME, later.name}
    assert {action["type"] for action in actions} == {"block-dirty-bitmap-remove"}


@pytest.mark.parametrize("token", ["", "A", "a b", "../x", "a" * 65])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(UsageError):
        bitmaps.check_token(token)


def test_the_longest_name_is_taken_by_qemu() -> None:
    assert len(bitmap_name(MACHINE, -1, "a" * 64)) <= 1023
