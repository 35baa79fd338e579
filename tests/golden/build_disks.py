"""Builds the golden vault of disks, beside that of files: run once per released format.

    python tests/golden/build_disks.py tests/golden/v1-disks

It writes ``vault/``, ``vault.key`` with ``passphrase`` and ``disks.json``: for each point the name,
size and SHA-256 of each file that a restore makes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from holdfast.adapters.object_store.local import LocalStore
from holdfast.ports.block_device import ExtentKind
from holdfast.testing.disks_vault import MemoryDisk
from holdfast.testing.files_vault import DirectSession
from holdfast.testing.little_agent import A_DAY
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.export import export_key
from holdfast.vaultstore.layout import vault_prefix
from holdfast.vaultstore.values import VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault
from holdfast.workloads.vm.disks.backup import DisksBackup
from holdfast.workloads.vm.disks.values import DiskInput, DisksPlan, KeysInput, stream_name

PASSPHRASE = "golden passphrase"
PLATFORM_KEY = b"golden platform key".ljust(32, b".")
IDS = VaultIds(
    vault_id=bytes.fromhex("601de700000040008000000000000011"),
    domain_id=bytes.fromhex("601de700000040008000000000000012"),
    tenant_id=bytes.fromhex("601de700000040008000000000000003"),
    subscription_id=bytes.fromhex("601de700000040008000000000000004"),
)
OPTIONS = VaultOptions(pack_target_bytes=256 * 1024, reserve_bytes=0, probe=False)
CONTAINER, MACHINE = "Linux;hyper1", "Linux;hyper1/VM;web"
KIB, MIB = 1 << 10, 1 << 20


class Builder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = LocalStore(folder / "store")
        self.clock = MovableClock(A_DAY)
        self.rng = SeededRandom(20260401)
        self.points: dict[str, dict[str, Any]] = {}
        self.vault = Vault.create(
            self.store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=self.clock, rng=self.rng
        )

    def back_up(
        self, disks: dict[int, tuple[MemoryDisk, int]], since: str, keys: KeysInput | None = None
    ) -> str:
        """``disks``: by number, with the exponent of the grid."""
        self.clock.pass_time(timedelta(days=1))
        grant = self.vault.begin_session("backup", CONTAINER, MACHINE, self.rng.token(16))
        session = DirectSession(self.vault, grant, self.clock)  # type: ignore[arg-type]
        inputs = [
            DiskInput(
                lun=lun,
                source=disk,
                identity=f"id-{lun}",
                token=f"since-{len(self.points)}",
                changes_since=since,
                grid_exponent=grid,
            )
            for lun, (disk, grid) in disks.items()
        ]
        machine = {"name": "web", "firmware": "bios", "note": "größer als nötig"}
        plan = DisksPlan(disks=inputs, machine=machine, host="golden", threads=1, keys=keys)
        done = DisksBackup(plan, session, self.clock, self.rng).run()
        session.close()
        found = {
            f"{stream_name(lun)}.raw": {
                "size": disk.size,
                "sha256": hashlib.sha256(disk.content).hexdigest(),
            }
            for lun, (disk, _) in disks.items()
        }
        self.points[done.recovery_point_id] = found
        for disk, _ in disks.values():
            disk.changed = set()
        return done.recovery_point_id

    def run(self) -> None:
        large, small = MemoryDisk(130 * MIB + 512), MemoryDisk(5 * MIB - 1024)
        large.put(0, self.rng.token(70 * KIB))
        large.put(100 * MIB, b"line of text\n" * 20_000)
        large.discard(3 * MIB, MIB, ExtentKind.ZERO)
        large.put(130 * MIB, b"the short end".ljust(512, b"."))
        small.put(MIB, self.rng.token(3000) + b"small" * 90_000)
        first = self.back_up({0: (large, 16), -1: (small, 20)}, "")
        key_file = export_key(self.vault._core, PLATFORM_KEY, PASSPHRASE, scrypt_n=2**14)
        large.put(100 * MIB + 5, b"changed")
        large.discard(0, 64 * KIB)
        small.resize(6 * MIB)
        small.put(6 * MIB - 9, b"grown now")
        second = self.back_up({0: (large, 16), -1: (small, 20)}, first)
        added = MemoryDisk(200 * KIB)
        large.put(70 * MIB, b"last")
        self.back_up({0: (large, 16), 7: (added, 12)}, second)
        self.write(key_file)

    def write(self, key_file: bytes) -> None:
        (self.folder / "vault.key").write_bytes(key_file)
        (self.folder / "passphrase").write_text(PASSPHRASE + "\n")
        text = json.dumps(self.points, sort_keys=True, indent=1)
        (self.folder / "disks.json").write_text(text + "\n")
        (self.folder / "store" / vault_prefix(IDS.vault_id)).rename(self.folder / "vault")
        shutil.rmtree(self.folder / "store")


if __name__ == "__main__":
    Builder(Path(sys.argv[1])).run()
