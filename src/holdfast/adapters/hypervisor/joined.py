"""Several hypervisors of one host as one: each machine belongs to the first that lists it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

from holdfast.errors import HoldfastError
from holdfast.ports.hypervisor import (
    AtRest,
    Generations,
    Hypervisor,
    Machine,
    PowerState,
    Snapshot,
    Wish,
    unknown_machine,
)

log = logging.getLogger("holdfast.agent")


class JoinedHypervisor:
    """See ports.hypervisor.Hypervisor. A machine whose monitor the settings name stays theirs when
    libvirt lists it too: give that one first."""

    def __init__(self, parts: Sequence[Hypervisor]) -> None:
        self._parts = tuple(parts)
        self._lock = threading.Lock()
        self._homes: dict[str, Hypervisor] = {}
        self._last: dict[int, list[Machine]] = {}  # by the part's id()
        self._left_out: set[int] = set()  # of those, which could not list any yet

    def machines(self) -> list[Machine]:
        """A part that cannot list its machines now shows those it had, as unreachable; one that
        never could is left out. HoldfastError when that leaves no machine at all: nobody is to
        believe that there are none."""
        found: dict[str, Machine] = {}
        homes: dict[str, Hypervisor] = {}
        never: HoldfastError | None = None
        for part in self._parts:
            try:
                listed = self._listed(part)
            except HoldfastError as error:
                never = error
                self._leave_out(part, error)
                continue
            for machine in listed:
                if machine.id not in found:
                    found[machine.id], homes[machine.id] = machine, part
        if never is not None and not found:
            raise never
        with self._lock:
            self._homes = homes
        return sorted(found.values(), key=lambda machine: machine.name)

    def _listed(self, part: Hypervisor) -> list[Machine]:
        """HoldfastError when it never could."""
        try:
            listed = part.machines()
        except HoldfastError as error:
            with self._lock:
                before = self._last.get(id(part))
            if before is None:
                raise
            log.warning("machines as they were: %s", error.message)
            lost, why = PowerState.UNREACHABLE, error.message
            return [replace(machine, power=lost, problem=why) for machine in before]
        with self._lock:
            self._last[id(part)] = listed
        return listed

    def _leave_out(self, part: Hypervisor, error: HoldfastError) -> None:
        with self._lock:
            told = id(part) in self._left_out
            self._left_out.add(id(part))
        if not told:
            log.warning("its machines are left out until they can be listed: %s", error.message)

    def begin(
        self,
        machine: str,
        disks: Sequence[int],
        wish: Wish,
        bitmaps: Generations,
        at_rest: AtRest | None = None,
    ) -> Snapshot:
        return self._home(machine).begin(machine, disks, wish, bitmaps, at_rest)

    def clear(self, machine: str) -> None:
        self._home(machine).clear(machine)

    def settle(self, machine: str, committed: str | None) -> None:
        self._home(machine).settle(machine, committed)

    def _home(self, machine: str) -> Hypervisor:
        with self._lock:
            found = self._homes.get(machine.lower())
        if found is None:
            self.machines()
            with self._lock:
                found = self._homes.get(machine.lower())
        if found is None:
            raise unknown_machine(machine)
        return found
