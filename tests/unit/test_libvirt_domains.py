"""What is read from libvirt's XML, and what libvirt is given, without libvirt."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from holdfast.adapters.hypervisor.joined import JoinedHypervisor
from holdfast.adapters.hypervisor.libvirt import documents
from holdfast.adapters.hypervisor.libvirt.checkpoints import choose
from holdfast.adapters.hypervisor.libvirt.domains import DomainDisk, luns_of, read_domain
from holdfast.errors import NotFoundError, SourceError
from holdfast.machine_settings import libvirt_problems
from holdfast.ports.hypervisor import AgentState, Generations, Machine, Parent, PowerState, Wish
from holdfast.settings import AgentSettings


def domain(*devices: str, os: str = "<os><type>hvm</type></os>") -> str:
    return (
        "<domain type='kvm'><name>web 1</name><uuid>0D9A1F52-6F5C-4D1C-9A3D-0F8A4F6B7C10</uuid>"
        f"{os}<devices>{''.join(devices)}</devices></domain>"
    )


def disk(
    target: str, source: str = "", *, kind: str = "disk", form: str = "qcow2", more: str = ""
) -> str:
    source = source or f"<source file='/vm/{target}.img'/>"
    return (
        f"<disk type='file' device='{kind}'><driver name='qemu' type='{form}'/>{source}"
        f"<target dev='{target}' bus='virtio'/>{more}</disk>"
    )


def test_disks_are_told_by_boot_order_and_letter() -> None:
    read = read_domain(
        domain(
            disk("vdc", "<source dev='/dev/vg/data'/>", form="raw"),
            disk("sda", kind="cdrom", form="raw"),
            disk("vdb", more="<boot order='1'/>"),
            disk("vdd", more="<readonly/>"),
            disk("vde", more="<shareable/>"),
        )
    )
    assert read.id == "0d9a1f52-6f5c-4d1c-9a3d-0f8a4f6b7c10"
    assert [(one.lun, one.target, one.path, one.format) for one in read.disks] == [
        (-1, "vdb", "/vm/vdb.img", "qcow2"),
        (1, "vdc", "/dev/vg/data", "raw"),
    ]
    assert read.problem == ""


@pytest.mark.parametrize(
    ("targets", "luns"),
    [
        (["vda", "vdb", "vdc"], [-1, 0, 1]),
        (["vda", "vdc"], [-1, 1]),
        (["sda", "vda", "vdb"], [-1, 0, 1]),
        (["vda", "sda", "sdb"], [-1, 0, 1]),
        (["vda", "vdaa"], [-1, 25]),
        (["hda"], [-1]),
    ],
)
def test_a_disk_keeps_its_lun(targets: list[str], luns: list[int]) -> None:
    assert luns_of(targets) == luns


def test_a_disk_that_cannot_be_backed_up_is_not_passed_over() -> None:
    network = "<source protocol='rbd' name='pool/disk'/>"
    odd = domain(
        disk("vda"), disk("vdb", network), disk("vdc", form="vmdk"), disk("sdd", kind="lun")
    )
    read = read_domain(odd)
    assert [one.target for one in read.disks] == ["vda"]
    assert all(name in read.problem for name in ("vdb", "vdc", "sdd"))


def test_firmware_and_agent() -> None:
    channel = (
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'{}/></channel>"
    )
    flash = "<os><loader readonly='yes' type='pflash'>/f</loader></os>"
    assert read_domain(domain()).agent == ""
    assert read_domain(domain(channel.format(""))).agent == "disconnected"
    assert read_domain(domain(channel.format(" state='connected'"))).agent == "connected"
    assert read_domain(domain()).firmware == "bios"
    assert read_domain(domain(os="<os firmware='efi'/>")).firmware == "uefi"
    assert read_domain(domain(os=flash)).firmware == "uefi"


def test_names_are_text_in_what_libvirt_is_given() -> None:
    wanted = [
        documents.Wanted("vda", Path("/vm/<odd> & 'so'/vda.qcow2"), "holdfast-p1", True),
        documents.Wanted("vdb", Path("/vm/vdb.qcow2"), "", True),
    ]
    root = ElementTree.fromstring(documents.backup(Path("/run/s"), wanted, ["vdc"]))
    disks = {one.get("name"): one for one in root.iterfind("disks/disk")}
    scratch = disks["vda"].find("scratch")
    assert scratch is not None
    assert scratch.get("file") == "/vm/<odd> & 'so'/vda.qcow2"
    assert (disks["vda"].get("incremental"), disks["vdb"].get("incremental")) == (
        "holdfast-p1",
        None,
    )
    assert [one.get("backup") for one in disks.values()] == ["yes", "yes", "no"]
    text = documents.known_checkpoint("holdfast-p1", ["vda"], ["vdb"], domain(disk("vda")))
    known = ElementTree.fromstring(text)
    assert [one.get("checkpoint") for one in known.iterfind("disks/disk")] == ["bitmap", "no"]
    assert known.find("domain/name") is not None


def test_what_changes_count_from() -> None:
    image, raw = DomainDisk(0, "vdb", "/d", "qcow2"), DomainDisk(0, "vdb", "/d", "raw")
    known = ["holdfast-p1"]
    same = Generations("p2", {0: Parent("p1", "mark")})
    assert choose(image, "mark", same, known) == ("holdfast-p1", "")
    for found, identity, given, names in (
        (image, "mark", Generations("p2", {}), known),
        (image, "other", same, known),
        (raw, "mark", same, known),
        (image, "mark", same, []),
    ):
        name, why = choose(found, identity, given, names)
        assert name == ""
        assert why


def test_settings_that_are_wrong_are_told() -> None:
    assert libvirt_problems(AgentSettings()) == []
    wrong = AgentSettings(
        libvirt="vbox:///session",
        libvirt_scratch="here",
        libvirt_scratch_percent=0,
        libvirt_freeze_seconds=0,
    )
    assert len(libvirt_problems(wrong)) == 4


class Listing:
    """A hypervisor that lists machines, or fails to."""

    def __init__(self, *names: str) -> None:
        self.names, self.fails = names, False
        self.settled: list[str] = []

    def machines(self) -> list[Machine]:
        if self.fails:
            raise SourceError("libvirt cannot be reached")
        running, ready = PowerState.RUNNING, AgentState.READY
        return [Machine(name, f"{name}-{id(self)}", running, ready, ()) for name in self.names]

    def begin(self, machine: str, disks: object, wish: Wish, bitmaps: Generations) -> None: ...

    def settle(self, machine: str, committed: str | None) -> None:
        self.settled.append(machine)


def test_each_machine_belongs_to_the_first_that_lists_it() -> None:
    named, found = Listing("a", "b"), Listing("b", "c")
    joined = JoinedHypervisor([named, found])  # type: ignore[list-item]
    for machine in ("a", "b", "c"):
        joined.settle(machine, None)
    assert (named.settled, found.settled) == (["a", "b"], ["c"])
    assert [machine.id for machine in joined.machines()] == ["a", "b", "c"]
    with pytest.raises(NotFoundError):
        joined.settle("d", None)


def test_a_libvirt_that_is_away_loses_no_machine() -> None:
    named, found = Listing("a"), Listing("c")
    joined = JoinedHypervisor([named, found])  # type: ignore[list-item]
    joined.machines()
    found.fails = True
    shown = {machine.id: machine.power for machine in joined.machines()}
    assert shown == {"a": PowerState.RUNNING, "c": PowerState.UNREACHABLE}


def test_a_libvirt_that_was_never_there_keeps_nobody_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    named, found = Listing("a"), Listing("c")
    joined = JoinedHypervisor([named, found])  # type: ignore[list-item]
    found.fails = True
    assert [machine.id for machine in joined.machines()] == ["a"]
    joined.settle("a", None)
    joined.machines()
    assert (named.settled, len(caplog.records)) == (["a"], 1)
    found.fails = False
    assert [machine.id for machine in joined.machines()] == ["a", "c"]


def test_a_host_whose_only_machines_cannot_be_listed_is_not_one_without_any() -> None:
    named, found = Listing(), Listing("c")
    joined = JoinedHypervisor([named, found])  # type: ignore[list-item]
    found.fails = True
    with pytest.raises(SourceError):
        joined.machines()
