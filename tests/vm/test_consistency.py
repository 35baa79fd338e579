"""What a guest does around the point in time, and what the recovery point says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu import quiesce
from holdfast.adapters.hypervisor.qemu.quiesce import Quiesce
from holdfast.errors import SourceError
from holdfast.ports.hypervisor import AgentState, Consistency, PowerState, Wish
from holdfast.testing.guest import install_scripts as install
from holdfast.testing.wait import eventually

CRASH, FILES, APPLICATION = Consistency


def test_scripts_make_it_application_consistent(place: Any) -> None:
    install(place.guest, "echo quiet > /mnt/a/state; sync", "echo busy > /mnt/a/state")
    snapshot = place.begin()
    assert snapshot.outcome.level is APPLICATION
    assert snapshot.outcome.code == ""
    assert place.guest.shell("cat /run/order /mnt/a/state").split() == ["pre", "post", "busy"]
    place.finish(snapshot)
    assert b"quiet\n" in place.copy(-1).read_bytes()
    snapshot = place.begin(Wish(best=FILES))
    assert snapshot.outcome.level is FILES
    assert place.guest.shell("cat /run/order").split() == ["pre", "post"], "not asked for"
    snapshot.rollback()
    install(place.guest, "true", fsFreezeEnabled=False)
    snapshot = place.begin()
    assert (snapshot.outcome.level, snapshot.outcome.frozen) == (APPLICATION, 0)
    assert place.guest.shell("cat /run/order").split() == ["pre", "post"]
    snapshot.rollback()


def test_scripts_that_fail(place: Any) -> None:
    install(place.guest, "exit 7")
    snapshot = place.begin()
    assert (snapshot.outcome.level, snapshot.outcome.code) == (FILES, "Pre-ScriptExecutionFailed")
    assert "exit code 7" in snapshot.outcome.reason
    place.finish(snapshot)
    before = place.bitmaps()
    install(place.guest, "exit 7", continueBackupOnFailure=False)
    with pytest.raises(SourceError) as refused:
        place.begin()
    assert refused.value.code == "Pre-ScriptExecutionFailed"
    install(place.guest, "true")
    with pytest.raises(SourceError) as late:
        place.use(_with(place.entry, freeze_seconds=1))
        install(place.guest, "sleep 3", timeoutInSeconds=30)
        place.begin(Wish(at_least=FILES))
    assert late.value.code == "ConsistencyNotReached"
    assert "did not freeze within 1 s" in late.value.message
    assert place.nothing_left()
    assert place.bitmaps() == before
    install_works = place.guest.shell("echo again > /mnt/b/again; cat /mnt/b/again")
    assert install_works == "again\n", "the freeze that came late did not last"


def test_a_freeze_that_does_not_last_is_noticed(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host is too slow: the guest's watchdog thaws, runs the post-script, and the point in
    time is no better than a power cut."""
    install(place.guest, "true", "echo RESUMED > /dev/console")
    monkeypatch.setattr(quiesce, "WATCHDOG_SECONDS", 1)
    freeze = Quiesce.freeze

    def slow(self: Quiesce) -> None:
        freeze(self)
        eventually(lambda: "RESUMED" in place.guest.console, "the watchdog thaws")

    monkeypatch.setattr(Quiesce, "freeze", slow)
    snapshot = place.begin()
    assert (snapshot.outcome.level, snapshot.outcome.code) == (CRASH, "FreezeBroken")
    assert (snapshot.outcome.frozen, snapshot.outcome.thawed) == (2, 0)
    assert place.guest.shell("cat /run/order").split() == ["pre", "post"]
    snapshot.rollback()


def test_an_agent_that_is_silent(place: Any) -> None:
    place.guest.shell("(sleep 0.2; kill -STOP $(pidof qemu-ga)) >/dev/null 2>&1 &")

    def silent() -> bool:
        return place.hypervisor.machines()[0].agent is AgentState.SILENT

    eventually(silent, "the agent stops")
    snapshot = place.begin()
    assert (snapshot.outcome.level, snapshot.outcome.code) == (CRASH, "GuestAgentSilent")
    place.finish(snapshot)
    with pytest.raises(SourceError) as caught:
        place.begin(Wish(at_least=FILES))
    assert caught.value.code == "ConsistencyNotReached"
    assert place.nothing_left()
    assert place.guest.status == "running"


def test_a_guest_without_an_agent(make: Callable[..., Any]) -> None:
    place = make("agent=no writer=yes")
    (machine,) = place.hypervisor.machines()
    assert machine.agent is AgentState.MISSING
    snapshot = place.begin()
    assert (snapshot.outcome.level, snapshot.outcome.code) == (CRASH, "GuestAgentMissing")
    assert place.finish(snapshot)
    before = place.bitmaps()
    with pytest.raises(SourceError) as too_low:
        place.begin(Wish(at_least=FILES))
    assert too_low.value.code == "ConsistencyNotReached"
    assert "no guest agent runs in the guest" in too_low.value.message
    assert place.nothing_left()
    assert (place.guest.status, place.bitmaps()) == ("running", before)
    place.guest.control("stop")
    assert place.hypervisor.machines()[0].power is PowerState.PAUSED
    snapshot = place.begin()
    assert snapshot.outcome.reason == "the machine was paused"
    assert place.guest.status == "paused", "an administrator's pause is left alone"
    assert {lun: place.truth(lun) for lun in place.luns}
    place.finish(snapshot)
    assert place.copies() == {lun: place.truth(lun) for lun in place.luns}


def test_what_is_known_of_a_machine(place: Any) -> None:
    (machine,) = place.hypervisor.machines()
    assert (machine.power, machine.agent) == (PowerState.RUNNING, AgentState.READY)
    assert (machine.firmware, machine.cpus, machine.memory) == ("bios", 1, 128 << 20)
    assert [disk.lun for disk in machine.disks] == [-1, 0]
    assert machine.disks[0].size == 64 << 20
    snapshot = place.begin()
    assert place.hypervisor.machines() == [machine], "asked through the connection that is held"
    snapshot.rollback()


def _with(entry: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(entry, **changes)
