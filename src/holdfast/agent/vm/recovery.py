"""A host that serves no machines: it restores those of others, as files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from holdfast.ports.hypervisor import AtRest, Generations, Machine, Wish, unknown_machine


class NoHypervisor:
    """See ports.hypervisor.Hypervisor; it has no machines."""

    def machines(self) -> list[Machine]:
        return []

    def begin(
        self,
        machine: str,
        disks: Sequence[int],
        wish: Wish,
        bitmaps: Generations,
        at_rest: AtRest | None = None,
    ) -> NoReturn:
        raise unknown_machine(machine)

    def clear(self, machine: str) -> None:
        raise unknown_machine(machine)

    def settle(self, machine: str, committed: str | None) -> None:
        raise unknown_machine(machine)
