"""Builds the golden vault of a machine whose volumes are encrypted inside: run once per released
format.

    python tests/golden/build_keys.py tests/golden/v1-keys

It writes what ``build_disks.py`` writes, and ``keys.json``: for each point the values of its keys
(hex) by NAME/VERSION.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from holdfast.ports.block_device import ExtentKind
from holdfast.testing.disks_vault import MemoryDisk
from holdfast.vaultstore.export import export_key
from holdfast.vaultstore.machine_keys import MachineKey
from holdfast.workloads.vm.disks.values import KeysInput

sys.path.insert(0, str(Path(__file__).parent))
from build_disks import KIB, PASSPHRASE, PLATFORM_KEY, Builder


class Encrypted(Builder):
    def run(self) -> None:
        root, data = MemoryDisk(300 * KIB), MemoryDisk(200 * KIB)
        root.put(0, self.rng.token(90 * KIB))
        data.put(8 * KIB, self.rng.token(50 * KIB))
        data.discard(100 * KIB, 40 * KIB, ExtentKind.ZERO)
        disks = {-1: (root, 12), 0: (data, 12)}
        older = MachineKey(name="web-root", version="1", luns=(-1,), value=self.rng.token(64))
        newer = MachineKey(name="web-root", version="2", luns=(-1,), value=self.rng.token(64))
        of_all = MachineKey(name="web-all", version="7", value=b"words for every disk\n")
        told: dict[str, dict[str, str]] = {}

        def point(since: str, *keys: MachineKey, missing: tuple[str, ...] = ()) -> str:
            made = self.back_up(disks, since, KeysInput(keys=keys, missing=missing))
            told[made] = {f"{one.name}/{one.version}": one.value.hex() for one in keys}
            return made

        first = point("", older, of_all)
        key_file = export_key(self.vault._core, PLATFORM_KEY, PASSPHRASE, scrypt_n=2**14)
        data.put(100, b"changed")
        second = point(first, newer, of_all)
        point(second, of_all, missing=("web-root",))
        self.write(key_file)
        text = json.dumps(told, sort_keys=True, indent=1)
        (self.folder / "keys.json").write_text(text + "\n")


if __name__ == "__main__":
    Encrypted(Path(sys.argv[1])).run()
