"""The order of a folder store's system calls as the kernel saw them (strace, no fake in between).

An object counts when a log record names it. By then its bytes were synced before it got its name,
and its name, and those of new folders, before the record got its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

CALLS = "write,pwrite64,writev,fsync,fdatasync,link,linkat,mkdir,mkdirat,unlink,unlinkat"
WORK = """
import sys
from pathlib import Path
from holdfast.adapters.object_store.local import LocalStore
from holdfast.testing.little_agent import A_DAY, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.values import VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

ids = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
options = VaultOptions(pack_target_bytes=1 << 20, reserve_bytes=9000, probe=False)
vault = Vault.create(LocalStore(Path(sys.argv[1])), bytes(range(32)), ids=ids, options=options,
                     clock=MovableClock(A_DAY), rng=SeededRandom(1))
agent = LittleAgent(vault, SeededRandom(2))
first = agent.back_up({b"old": SeededRandom(3).token(1_500_000)})
agent.back_up({b"new": SeededRandom(4).token(30_000)})
vault.expire(vault.plan_expire({first.rp_id: "old"}))
vault.collect()
"""
SYNC = re.compile(r"f(?:data)?sync\(\d+<(.+?)>\)")
WRITE = re.compile(r"(?:write|pwrite64|writev)\(\d+<(.+?)>")
PATH = r'(?:AT_FDCWD(?:<.*?>)?, )?"(.+?)"'
LINK = re.compile(rf"link(?:at)?\({PATH}, {PATH}")
NAME = re.compile(rf"(?:mkdir|unlink)(?:at)?\({PATH}")


class Order:
    """Follows the calls: ``unsynced`` files with bytes that may be lost, ``fleeting`` names made or
    removed whose folder was not synced since."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.unsynced: set[str] = set()
        self.fleeting: set[str] = set()
        self.seen: Counter[str] = Counter()

    def follow(self, line: str) -> None:
        if found := SYNC.search(line):
            self.unsynced.discard(found[1])
            self.fleeting = {name for name in self.fleeting if _folder(name) != found[1]}
        elif found := LINK.search(line):
            self._link(found[1], found[2])
        elif found := NAME.search(line):
            self._fleet(found[1])
        elif (found := WRITE.search(line)) and found[1].startswith(self.root):
            self.unsynced.add(found[1])

    def _fleet(self, name: str) -> None:
        if name.startswith(self.root) and "/+tmp/" not in name:
            self.fleeting.add(name)

    def _link(self, source: str, target: str) -> None:
        assert source not in self.unsynced, f"{target} may be empty after a power cut"
        room = target.removeprefix(self.root).split("/")[2]
        if room == "log":
            assert not self.fleeting, f"{target} counts, and these may be gone: {self.fleeting}"
        self.seen[room] += 1
        self.fleeting.add(target)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def test_bytes_and_names_are_synced_before_a_record_counts_them(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    root, out = tmp_path / "store", tmp_path / "calls"
    root.mkdir()
    words = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(out)]
    done = subprocess.run(
        [*words, sys.executable, "-c", WORK, str(root)], capture_output=True, text=True, check=False
    )
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("processes may not be traced here")
    assert done.returncode == 0, done.stderr
    order = Order(root)
    for line in out.read_text(errors="replace").splitlines():
        if " = -1 " not in line:
            order.follow(line)
    assert order.fleeting == set(), "what the work returned from lasts"
    assert order.unsynced == set()
    assert order.seen["log"] >= 10
    assert {"packs", "tables", "refsets", "keyring", "sessions"} <= set(order.seen)
