"""Names, claims, disks and consistency of virtual machines."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.virtual_machines import (
    MAX_NAME,
    ConsistencyWish,
    Exclusion,
    check_machine_name,
    claim_of,
    container_name,
    free_name,
    is_machine,
    item_name,
    level_of,
    names_in,
    read_luns,
    resource_name,
)
from holdfast.errors import HoldfastError, UsageError
from holdfast.ports.vm_tasks import DiskFiles, VmRestore, read_restore, to_body

UUID = "0123abcd-0000-4000-8000-000000000000"


@given(st.text(max_size=300))
def test_whatever_a_hypervisor_calls_it_arm_can(name: str) -> None:
    given_name = resource_name(name, UUID)
    assert 1 <= len(given_name) <= MAX_NAME
    assert check_machine_name(given_name) == given_name
    assert names_in(item_name("rg", given_name)) == ("rg", given_name)


@given(st.lists(st.sampled_from(["web", "WEB", "web-hv1", "x" * 64]), max_size=12))
def test_every_machine_gets_a_name_of_its_own(wanted: list[str]) -> None:
    taken: set[str] = set()
    for name in wanted:
        found = free_name(name, "hv1", taken)
        assert found.lower() not in taken
        assert len(found) <= MAX_NAME
        taken.add(found.lower())


def test_names_are_read_in_any_case_and_nothing_else_is() -> None:
    assert names_in("vm;IaasVmContainerV2;rg;web") == ("rg", "web")
    assert is_machine(container_name("rg", "web").lower())
    for other in ("VM;web", "VM;other;rg;web", "FileFolder;iaasvmcontainerv2;rg;web", ""):
        assert names_in(other) is None
    assert not is_machine("Linux;web")


def test_only_one_host_the_right_one_makes_a_machine_present() -> None:
    assert claim_of([]) == "Missing"
    assert claim_of(["a"]) == claim_of(["a"], "a") == "Present"
    assert claim_of(["b"], "a") == "Moved"
    assert claim_of(["a", "b"], "a") == "ClaimedTwice"


def test_the_systems_disk_is_always_backed_up() -> None:
    assert Exclusion().includes(-1) and Exclusion().includes(3)
    out = Exclusion(frozenset({1}))
    assert [out.includes(lun) for lun in (-1, 0, 1)] == [True, True, False]
    only = Exclusion(frozenset({1}), inclusive=True)
    assert [only.includes(lun) for lun in (-1, 0, 1)] == [True, False, True]


def test_luns_are_read_as_numbers_and_as_az_sends_them() -> None:
    assert read_luns(["3", 1, "1"], 0) == [1, 3]
    assert read_luns(["-1"], -1) == [-1]
    for wrong in ("0", None, [True], [0.5], ["x"], ["-1"], [64], ["099"], [[1]], [1] * 66):
        assert read_luns(wrong, 0) is None


def test_the_least_is_not_above_the_wish() -> None:
    assert level_of("file-system") == level_of("filesystemconsistent") == "FileSystemConsistent"
    ConsistencyWish("AppConsistent", "AppConsistent")
    for wish, least in (("CrashConsistent", "AppConsistent"), ("holy", "CrashConsistent")):
        with pytest.raises(UsageError):
            ConsistencyWish(wish, least)


def test_tasks_read_what_was_written_and_say_what_they_cannot() -> None:
    asked = VmRestore(
        recovery_point_id="1", uuid=UUID, name="web", target=DiskFiles(folder="/srv"), luns=(0,)
    )
    assert read_restore(to_body(asked)) == asked
    newer = {**to_body(asked), "unknown": 1}
    assert read_restore(newer) == asked
    with pytest.raises(HoldfastError) as unreadable:
        read_restore({**to_body(asked), "target": {"kind": "moon"}})
    assert unreadable.value.code == "TaskUnreadable"
    assert isinstance(unreadable.value.__cause__, msgspec.ValidationError)
