"""Measure a command with all the processes that work for it: wall, CPU, summed peak memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_SECONDS = 0.1
FIRST_SAMPLE_SECONDS = 0.01  # commands of a tenth of a second have a peak too
COMMAND = "command"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Measurement:
    """Seconds of wall and CPU, bytes of peak resident memory summed over the processes;
    ``servants_rss_bytes``: the peak of the long-lived ones alone."""

    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    exit_code: int
    rss_by_process: dict[str, int] = field(default_factory=dict)
    servants_rss_bytes: int = 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
    return found + [below for child in found for below in _children(child)]


def _rss(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu(pid: int) -> float:
    """Seconds used by the process and by all below it, ended or not."""
    return sum(_own_cpu(one) for one in [pid, *_children(pid)])


def _own_cpu(pid: int) -> float:
    """Seconds used by the process and by its ended children."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return sum(int(word) for word in words[11:15]) / TICKS


def row_of(took: Measurement) -> dict[str, float]:
    """What a table of results keeps: seconds of wall and CPU, bytes of peak memory."""
    peak = float(took.peak_rss_bytes)
    return {"wall": took.wall_seconds, "cpu": took.cpu_seconds, "rss": peak}


def tell(step: str, name: str, took: Measurement) -> None:
    """A line of what was just measured."""
    rss = {name: f"{size / 1e6:.0f}" for name, size in took.rss_by_process.items()}
    print(f"  {step:26} {name:18} {took.wall_seconds:7.2f} s wall "
          f"{took.cpu_seconds:7.2f} s CPU  RSS MB {took.peak_rss_bytes / 1e6:.0f} {rss}",
          flush=True)  # fmt: skip


class _Sampler:
    """Samples the resident memory of several process trees until stopped."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self.roots = dict(roots)
        self.peak = 0
        self.servants_peak = 0
        self.peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause = FIRST_SAMPLE_SECONDS
        while not self._stop.wait(pause):
            pause = min(pause * 1.5, SAMPLE_SECONDS)
            total = own = 0
            for name, root in self.roots.items():
                used = sum(_rss(pid) for pid in [root, *_children(root)])
                self.peaks[name] = max(self.peaks.get(name, 0), used)
                total += used
                own = used if name == COMMAND else own
            self.peak = max(self.peak, total)
            self.servants_peak = max(self.servants_peak, total - own)


def together(parts: Sequence[Measurement]) -> Measurement:
    """Commands one after another, as one."""
    peaks: dict[str, int] = {}
    for name, used in (pair for part in parts for pair in part.rss_by_process.items()):
        peaks[name] = max(peaks.get(name, 0), used)
    return Measurement(
        sum(part.wall_seconds for part in parts),
        sum(part.cpu_seconds for part in parts),
        max(part.peak_rss_bytes for part in parts),
        max(part.exit_code for part in parts),
        peaks,
        max(part.servants_rss_bytes for part in parts),
    )


def measure(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    servants: Mapping[str, int] | None = None,
) -> Measurement:
    """Run ``command`` to its end. ``servants``: name -> pid of long-lived processes that do its
    work elsewhere; their CPU and memory during the run count too."""
    servants = servants or {}
    cpu_before = sum(_cpu(pid) for pid in servants.values())
    with log.open("ab") as out:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(environment), stdout=out, stderr=out)
        sampler = _Sampler({COMMAND: process.pid, **servants})
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
    sampler.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    cpu += sum(_cpu(pid) for pid in servants.values()) - cpu_before
    return Measurement(
        wall, cpu, sampler.peak, process.returncode, sampler.peaks, sampler.servants_peak
    )


def tree_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """All files below ``path``: size in bytes and time of change in nanoseconds."""
    found: dict[str, tuple[int, int]] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            full = os.path.join(folder, name)
            info = os.lstat(full)
            found[full] = (info.st_size, info.st_mtime_ns)
    return found


def tree_bytes(path: Path) -> int:
    """Bytes of all regular files below ``path``."""
    return sum(size for size, _ in tree_sizes(path).values())


def loopback_bytes() -> int:
    """What the loopback device has carried since the machine started, both ways, with headers."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "lo":
            return int(figures.split()[0])
    return 0
