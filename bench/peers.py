"""Holdfast's peers in ``make bench``, and the list of all contenders.

All encrypt. They compress with zstd at its usual level, or as they do by themselves (``defaults``).
What expiring leaves they free at once, as Holdfast does, rewriting as much as they do by
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_tools import Tool
from contenders import Borg, ContenderFailed, Restic, TarZstd
from measure import Measurement, together
from whole_life import HALF, HoldfastLife, WholeLife


class ResticLife(Restic, WholeLife):
    """Compresses with zstd by itself."""

    def restore(self, target: Path) -> Measurement:
        return self._restore(target)

    def restore_one(self, path: Path, target: Path) -> Measurement:
        return self._restore(target, "--include", str(path))

    def _restore(self, target: Path, *more: str) -> Measurement:
        sparse = ("--sparse",) if self.sparse else ()
        return self.run(self.program, "restore", "--quiet", "latest", "--target", str(target),
                        *sparse, *more)  # fmt: skip

    def list_folder(self, path: Path) -> Measurement:
        return self.run(self.program, "ls", "latest", str(path))

    def expire_half(self) -> Measurement:
        keep = ("--keep-last", str(HALF))
        return self.run(self.program, "forget", "--quiet", *keep, "--prune")

    def verify(self) -> Measurement:
        return self.run(self.program, "check", "--quiet", "--read-data")


class Putting(WholeLife):
    """Restores what is at a path to another, whatever its own was; here to where it would be below
    the target."""

    source: Path

    def put(self, path: Path, where: Path) -> Measurement:
        raise AssertionError(self.name)

    def restore(self, target: Path) -> Measurement:
        return self.restore_one(self.source, target)

    def restore_one(self, path: Path, target: Path) -> Measurement:
        where = self.restored_tree(target, path)
        where.parent.mkdir(parents=True)
        return self.put(path, where)


class RusticLife(Putting):
    """restic's format; compresses with zstd by itself."""

    name = program = "rustic"

    def set_up(self, source: Path) -> None:
        self.source = source
        self.environment["RUSTIC_PASSWORD"] = "benchmark"
        self.environment["RUSTIC_REPOSITORY"] = str(self.folder / "repository")
        self.environment["RUSTIC_CACHE_DIR"] = str(self.folder / "cache")
        self.run(self.program, "init")

    def back_up(self, source: Path) -> Measurement:
        return self.run(self.program, "backup", str(source))

    def put(self, path: Path, where: Path) -> Measurement:
        sparse = ("--sparse", "by-content") if self.sparse else ()
        return self.run(self.program, "restore", *sparse, f"latest:{path}", str(where))

    def list_folder(self, path: Path) -> Measurement:
        return self.run(self.program, "ls", f"latest:{path}")

    def expire_half(self) -> Measurement:
        return self.run(self.program, "forget", "--keep-last", str(HALF), "--prune",
                        "--instant-delete")  # fmt: skip

    def verify(self) -> Measurement:
        return self.run(self.program, "check", "--read-data")


class KopiaLife(Putting):
    """Compresses nothing by itself; its maintenance would free only after a day or two."""

    name = program = "kopia"

    def set_up(self, source: Path) -> None:
        self.source = source
        self.environment |= {
            "KOPIA_PASSWORD": "benchmark",
            "KOPIA_CONFIG_PATH": str(self.folder / "repository.config"),
            "KOPIA_CACHE_DIRECTORY": str(self.folder / "cache"),
            "KOPIA_LOG_DIR": str(self.folder / "logs"),
            "KOPIA_CHECK_FOR_UPDATES": "false",
            "KOPIA_PERSIST_CREDENTIALS_ON_CONNECT": "false",
        }
        where = str(self.folder / "repository")
        self.run(self.program, "repository", "create", "filesystem", f"--path={where}")
        if not self.defaults:
            self.run(self.program, "policy", "set", "--global", "--compression=zstd")

    def back_up(self, source: Path) -> Measurement:
        return self.run(self.program, "snapshot", "create", "--no-progress", str(source))

    def put(self, path: Path, where: Path) -> Measurement:
        sparse = ("--write-sparse-files",) if self.sparse else ()
        return self.run(self.program, "restore", "--no-progress", *sparse,
                        self._object(path), str(where))  # fmt: skip

    def _object(self, path: Path) -> str:
        found = self.ask("snapshot", "list", "--json", str(self.source))
        if not found:
            raise ContenderFailed(f"{self.name}: there is no snapshot to restore")
        return str(Path(found[-1]["id"]) / path.relative_to(self.source))

    def list_folder(self, path: Path) -> Measurement:
        return self.run(self.program, "ls", "-l", self._object(path))

    def before_expiring(self) -> None:
        none = [f"--keep-{span}=0" for span in ("hourly", "daily", "weekly", "monthly", "annual")]
        self.run(self.program, "policy", "set", "--global", f"--keep-latest={HALF}", *none)

    def expire_half(self) -> Measurement:
        return together([
            self.run(self.program, "snapshot", "expire", "--delete", str(self.source)),
            self.run(self.program, "maintenance", "run", "--full", "--safety=none"),
        ])  # fmt: skip

    def verify(self) -> Measurement:
        return self.run(self.program, "snapshot", "verify", "--verify-files-percent=100")


class BorgLife(Borg, WholeLife):
    """Compresses with lz4 by itself."""

    def set_up(self, source: Path) -> None:
        self.create_options = () if self.defaults else ("--compression", "zstd")
        self.extract_options = ("--sparse",) if self.sparse else ()
        super().set_up(source)

    def restore_one(self, path: Path, target: Path) -> Measurement:
        return self.extract(target, str(path).lstrip("/"))

    def list_folder(self, path: Path) -> Measurement:
        return self.run(self.program, "list", f"::point-{self.count}", str(path).lstrip("/"))

    def expire_half(self) -> Measurement:
        return together([
            self.run(self.program, "prune", "--keep-last", str(HALF)),
            self.run(self.program, "compact"),
        ])  # fmt: skip

    def verify(self) -> Measurement:
        return self.run(self.program, "check", "--verify-data")


class TarLife(TarZstd, WholeLife):
    """What two cores can do without deduplication, encryption and checks."""

    name = "tar | zstd -3 -T2"
    threads = 2
    tar_options = "--sparse --format=posix"


LIVES: tuple[type[WholeLife], ...] = (
    HoldfastLife, KopiaLife, ResticLife, RusticLife, BorgLife, TarLife,
)  # fmt: skip


def configured(tools: Sequence[Tool], *, defaults: bool, sparse: bool) -> list[type[WholeLife]]:
    """Of the contenders those that are there, as this run wants them."""
    paths = {tool.name: tool.path for tool in tools}
    found = []
    for kind in LIVES:
        program = paths.get(kind.program, "")
        if not kind.program or program:
            settings = {"defaults": defaults, "sparse": sparse, "program": program}
            found.append(type(kind.__name__, (kind,), settings))
    return found
