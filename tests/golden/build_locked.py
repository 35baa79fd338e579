"""Builds the golden vault that is immutable: run once per released format.

    python tests/golden/build_locked.py tests/golden/v1-locked

It writes what ``build.py`` writes. Points and packs have lock horizons; one point was locked for
longer later, and one is gone while its packs wait for their horizon.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path

from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore.export import export_key
from holdfast.vaultstore.layout import vault_prefix

sys.path.insert(0, str(Path(__file__).parent))
from build import IDS, PASSPHRASE, PLATFORM_KEY, Builder, Tree, file, folder


def tree(seed: int) -> Tree:
    """Ten files, three of which are the same whatever the seed."""
    contents = [SeededRandom(n if n < 3 else 100 * seed + n).token(5000) for n in range(10)]
    return {b"kept": folder()} | {b"kept/%02d" % n: file(data) for n, data in enumerate(contents)}


class Locking(Builder):
    def run(self) -> None:
        self.vault.set_immutability("Unlocked")
        first = self.back_up("docs", "Linux;web1", tree(1))
        key_file = export_key(self.vault._core, PLATFORM_KEY, PASSPHRASE, scrypt_n=2**14)
        second = self.back_up("docs", "Linux;web1", tree(2))
        self.back_up("docs", "Linux;web1", tree(3))
        self.lock(first.rp_id, 1)
        self.lock(second.rp_id, 5)
        self.vault.set_immutability("Locked")
        self.lock(second.rp_id, 400)
        self.clock.pass_time(timedelta(days=2))
        self.drop(first.rp_id)
        if not self.vault.plan_collect().locked:
            raise AssertionError("no pack waits for its horizon")
        (self.folder / "vault.key").write_bytes(key_file)
        (self.folder / "passphrase").write_text(PASSPHRASE + "\n")
        rows = json.dumps(self.points, sort_keys=True).encode()
        (self.folder / "inventory.json.gz").write_bytes(gzip.compress(rows, mtime=0))
        (self.folder / "store" / vault_prefix(IDS.vault_id)).rename(self.folder / "vault")
        shutil.rmtree(self.folder / "store")

    def lock(self, rp_id: str, days: int) -> None:
        until = self.clock.now() + timedelta(days=days)
        if self.vault.lock_points({rp_id: until}) != 1:
            raise AssertionError("a point was not locked")


if __name__ == "__main__":
    Locking(Path(sys.argv[1])).run()
