"""Builds the golden vault in which packs were rewritten: run once per released format.

    python tests/golden/build_rewritten.py tests/golden/v1-rewritten

It writes what ``build.py`` writes. Most of its chunks were moved, some of them twice.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore.export import export_key
from holdfast.vaultstore.layout import vault_prefix
from holdfast.vaultstore.values import CollectBudget

sys.path.insert(0, str(Path(__file__).parent))
from build import IDS, PASSPHRASE, PLATFORM_KEY, Builder, Tree, file, folder, other_tree


def many(count: int) -> Tree:
    """So many of the same 40 files."""
    rng = SeededRandom(5)
    contents = [rng.token(9000) for _ in range(40)]
    chosen = range(0, 40, 40 // count)
    return {b"kept": folder()} | {b"kept/%02d" % n: file(contents[n]) for n in chosen}


class Rewriting(Builder):
    def rewrite(self) -> None:
        done = self.vault.collect(budget=CollectBudget(rewrite_below=0.95))
        if not done.rewritten_packs:
            raise AssertionError("nothing was rewritten")
        self.vault.collect()

    def run(self) -> None:
        first = self.back_up("docs", "Linux;web1", many(40))
        key_file = export_key(self.vault._core, PLATFORM_KEY, PASSPHRASE, scrypt_n=2**14)
        second = self.back_up("docs", "Linux;web1", many(20))
        self.back_up("system", "Linux;db1", other_tree())
        self.drop(first.rp_id)
        self.rewrite()
        self.rotate_epoch()
        self.back_up("docs", "Linux;web1", many(4))
        self.drop(second.rp_id)
        self.rewrite()
        (self.folder / "vault.key").write_bytes(key_file)
        (self.folder / "passphrase").write_text(PASSPHRASE + "\n")
        rows = json.dumps(self.points, sort_keys=True).encode()
        (self.folder / "inventory.json.gz").write_bytes(gzip.compress(rows, mtime=0))
        (self.folder / "store" / vault_prefix(IDS.vault_id)).rename(self.folder / "vault")
        shutil.rmtree(self.folder / "store")


if __name__ == "__main__":
    Rewriting(Path(sys.argv[1])).run()
