"""Booted guests. One is shared by tests that leave it running; others boot their own (3 s)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu import QemuHypervisor
from holdfast.machine_settings import MachineDisk, MachineEntry
from holdfast.ports.hypervisor import AtRest, Generations, Parent, Snapshot, Wish
from holdfast.testing.guest import (
    GuestDisk,
    GuestFiles,
    GuestMachine,
    build_guest,
    flatten,
    guest_folder,
    make_disk,
    missing_tools,
    pull,
)


class Place:
    """A guest, the hypervisor adapter that knows it, and copies of its disks as a backup's."""

    def __init__(self, folder: Path, files: GuestFiles, words: str, **options: Any) -> None:
        image = options.pop("image", "qcow2")
        self.folder, self.files = folder, files
        self.luns = (-1, 0)
        self.images = [make_disk(folder / f"{name}.{image}", image=image) for name in ("a", "b")]
        disks = [GuestDisk(path, image) for path in self.images]
        self.guest = GuestMachine(folder, disks, words=words, **options)
        self.image = image
        self.entry = MachineEntry(
            name="web1",
            uuid=self.guest.uuid,
            qmp=str(self.guest.qmp),
            agent=str(self.guest.agent),
            disk=[MachineDisk(path=str(path), format=image) for path in self.images],
            freeze_seconds=20,
        )
        self.use(self.entry)
        self.parents: dict[int, Parent] = {}
        self.committed: str | None = None
        self._count = 0

    def use(self, entry: MachineEntry) -> None:
        """From now on the machine has these settings."""
        self.entry = entry
        self.hypervisor = QemuHypervisor([entry], self.folder / "agent")

    def begin(
        self,
        wish: Wish | None = None,
        luns: Sequence[int] | None = None,
        at_rest: AtRest | None = None,
    ) -> Snapshot:
        """Settle, then the next point in time."""
        self._count += 1
        self.hypervisor.settle(self.entry.id, self.committed)
        wanted = Generations(f"p{self._count}", self.parents)
        luns, wish = luns or self.luns, wish or Wish()
        return self.hypervisor.begin(self.entry.id, luns, wish, wanted, at_rest)

    def finish(self, snapshot: Snapshot) -> list[int]:
        """Read all disks and commit; the bytes read of each."""
        read = [pull(export, self.copy(export.disk.lun)) for export in snapshot.exports]
        self.remember(snapshot)
        snapshot.commit()
        return read

    def remember(self, snapshot: Snapshot) -> None:
        """What the catalog holds after its commit."""
        self.parents |= {
            one.disk.lun: Parent(snapshot.token, one.disk.identity) for one in snapshot.exports
        }
        self.committed = snapshot.token

    def copy(self, lun: int) -> Path:
        return self.folder / f"copy{lun}"

    def truth(self, lun: int) -> bytes:
        """The disk's bytes now, by qemu-img; the guest must not write."""
        path = self.folder / "truth"
        image = self.images[self.luns.index(lun)]
        return flatten(image, path, image=self.image, in_use=True).read_bytes()

    def copies(self) -> dict[int, bytes]:
        return {lun: self.copy(lun).read_bytes() for lun in self.luns}

    def nothing_left(self) -> bool:
        """No node, export or server of ours in the machine, no scratch file on the host."""
        nodes = self.guest.control("query-named-block-nodes", flat=True)
        ours = [one for one in nodes if one["node-name"].startswith("hf-")]
        scratch = list((self.folder / "agent").rglob("*.qcow2"))
        return not ours and not self.guest.control("query-block-exports") and not scratch

    def bitmaps(self) -> set[str]:
        """Tokens of the bitmaps in the running machine."""
        nodes = self.guest.control("query-named-block-nodes", flat=True)
        return {
            one["name"].rpartition("-")[2]
            for node in nodes
            for one in node.get("dirty-bitmaps", ())
        }


@pytest.fixture(scope="session")
def files() -> GuestFiles:
    if missing := missing_tools():
        pytest.skip(f"needs {', '.join(missing)}: guests are booted")
    return build_guest()


@pytest.fixture
def make(files: GuestFiles) -> Iterator[Callable[..., Place]]:
    """Boots a guest: ``make("kernel words", wait=False, image="raw", ...)``. ``room``: its folder,
    of a short path."""
    with ExitStack() as ending:

        def made(
            words: str = "", *, wait: bool = True, room: Path | None = None, **options: Any
        ) -> Place:
            folder = room or ending.enter_context(guest_folder())
            place = Place(folder, files, words, **options)
            ending.callback(place.guest.kill)
            place.guest.boot(files, wait=wait)
            return place

        yield made


@pytest.fixture
def place(make: Callable[..., Place]) -> Place:
    """A booted guest with a checksummed pattern on its data disk."""
    found = make()
    found.guest.write_pattern("/mnt/b/base", count=160)
    return found
