"""A contender of ``make bench`` lives through a repository's whole life, phase by phase.

Each makes four points: a first one, one of the unchanged tree, two after changes. ``HALF`` of them
stay when it expires. Here is what all have to be able to do, and how Holdfast does it.
"""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from contenders import Contender, ContenderFailed, Holdfast
from measure import Measurement, loopback_bytes, together, tree_sizes

POINTS, HALF = 4, 2
KEPT_SECONDS = 10  # how long Holdfast is told to keep the points that are to expire


class WholeLife(Contender):
    """What a contender does beyond backup and restore; ``sparse``: the tree has holes."""

    defaults = False
    sparse = False

    def restore_one(self, path: Path, target: Path) -> Measurement:
        raise AssertionError(self.name)

    def list_folder(self, path: Path) -> Measurement:
        raise AssertionError(self.name)

    def before_expiring(self) -> None:
        """What comes first and is not measured: telling it what to keep."""

    def expire_half(self) -> Measurement:
        raise AssertionError(self.name)

    def verify(self) -> Measurement:
        raise AssertionError(self.name)

    def sent_mark(self) -> Any:
        """To find out later what was sent: here the files of the repository."""
        return tree_sizes(self.folder / "repository")

    def sent_since(self, mark: Any) -> int:
        """Bytes of the files that are new or other: what a store elsewhere would have been sent."""
        now = tree_sizes(self.folder / "repository")
        return sum(found[0] for path, found in now.items() if mark.get(path) != found)

    def ask(self, *words: str) -> Any:
        """What a command answers in JSON, unmeasured."""
        done = subprocess.run([self.program, *words], env=self.environment, check=False,
                              stdout=subprocess.PIPE)  # fmt: skip
        if done.returncode:
            raise ContenderFailed(f"{self.name}: {words} ended with {done.returncode}")
        return json.loads(done.stdout)


class HoldfastLife(Holdfast, WholeLife):
    """Through server and agent; the first half of the points is kept for seconds only."""

    made = 0
    ends = datetime.min.replace(tzinfo=UTC)

    def back_up(self, source: Path) -> Measurement:
        self.made += 1
        kept: tuple[str, ...] = ()
        if self.made <= POINTS - HALF:
            self.ends = datetime.now(tz=UTC) + timedelta(seconds=KEPT_SECONDS)
            kept = ("--retain-until", self.ends.isoformat())
        return self.on_item("backup", "now", "--wait", *kept)

    def restore_one(self, path: Path, target: Path) -> Measurement:
        return self.on_item("restore", "--recovery-point", "latest", "--path", str(path),
                            "--to", str(target), "--wait")  # fmt: skip

    def list_folder(self, path: Path) -> Measurement:
        return self.on_item("recovery-point", "browse", str(path), "--recovery-point", "latest")

    def before_expiring(self) -> None:
        while datetime.now(tz=UTC) <= self.ends:
            time.sleep(0.5)

    def expire_half(self) -> Measurement:
        return together([self._vault("expire"), self._vault("collect")])

    def verify(self) -> Measurement:
        return self._vault("verify")

    def _vault(self, what: str) -> Measurement:
        return self.cli("vault", what, "bench-vault", "-g", "bench")

    def sent_mark(self) -> int:
        return loopback_bytes()

    def sent_since(self, mark: int) -> int:
        return loopback_bytes() - mark
