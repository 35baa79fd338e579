"""``make bench-vm``: a running machine's disk, by Holdfast and by tools that copy its image.

Each round boots a guest (no virtualisation hardware needed) with a disk of --size that holds
--data. Every contender makes a first backup; the guest overwrites 1 % of the data at random, in
pieces of 64 KiB, and every contender backs up again; then 1 % in one run, and again. A last backup
with the guest paused is restored to a qcow2 by each and compared with the guest's image. The order
rotates. Holdfast reads the running guest; the others read its image while it is paused. Ratios are
taken within a round; the table shows their medians.

A small one tests the tool: --size 2G --data 384M --rounds 1
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_files import record
from contenders import Contender, machine_facts
from measure import Measurement
from report import OURS, Report, Results, goals_table, middle, write_report
from vm_contenders import HoldfastVm, QemuImgConvert, ResticImage, has_command, missing
from vm_guest import FILE_BYTES, BenchGuest, boot, build_image, change_script

from holdfast.testing.guest import GuestFiles, build_guest, guest_folder, missing_tools

STEPS = ("first backup", "1 % at random", "1 % in one run", "restore to qcow2")
UNITS = {"M": 1 << 20, "G": 1 << 30}
Figures = dict[str, list[float]]


def size_of(text: str) -> int:
    return int(float(text[:-1]) * UNITS[text[-1].upper()])


class Round:
    """One guest and the contenders at work on it."""

    def __init__(self, guest: BenchGuest, work: Path, data: int, number: int) -> None:
        self.guest, self.work, self.data, self.number = guest, work, data, number
        self.ours = HoldfastVm(work / "holdfast", guest)
        others: list[Contender] = [ResticImage(work / "restic"), QemuImgConvert(work / "qemu-img")]
        shift = number % (len(others) + 1)
        everyone = [self.ours, *others]
        self.order = everyone[shift:] + everyone[:shift]
        self.figures: Figures = {}
        self.checks: dict[str, bool] = {}

    def run(self, results: Results) -> None:
        for who in self.order:
            who.set_up(self.guest.image)
        try:
            for step in STEPS[:3]:
                if step != STEPS[0]:
                    self._change(step)
                for who in self.order:
                    if who.incremental or step == STEPS[0]:
                        record(results, step, who, self._back_up(who, step))
            self._restores(results)
            self.checks |= self.ours.check()
            self._one_file()
        finally:
            for who in self.order:
                who.tear_down()

    def _change(self, step: str) -> None:
        started = time.monotonic()
        script = change_script(self.data, self.number, sequential=step == STEPS[2])
        self.guest.change(script)
        dirty = self.guest.dirty_bytes()
        took = time.monotonic() - started
        print(f"  the guest wrote for {took:.0f} s; {dirty / 1e6:.1f} MB are dirty", flush=True)

    def _back_up(self, who: Contender, step: str) -> Measurement:
        subprocess.run(["sync"], check=True)  # nobody pays for what another left to be written
        if who is not self.ours:
            with self.guest.paused():
                return who.back_up(self.guest.image)
        dirty, before = self.guest.dirty_bytes(), self.guest.read_bytes()
        took = who.back_up(self.guest.image)
        told = self.ours.newest()
        self._note("stop ms", told["stopMs"])
        self._note("freeze ms", told["freezeMs"])
        if step != STEPS[0]:
            read = self.guest.read_bytes() - before
            audited = sum(disk["auditedBytes"] for disk in told["disks"])
            self._note(f"{step}: read / dirty", (read - audited) / dirty)
            print(
                f"    dirty {dirty / 1e6:.1f} MB, read by QEMU {read / 1e6:.1f} MB, of these "
                f"{audited / 1e6:.1f} MB audited; said to be read "
                f"{sum(disk['readBytes'] for disk in told['disks']) / 1e6:.1f}",
                flush=True,
            )
        return took

    def _restores(self, results: Results) -> None:
        """Of a last point, made while the guest is paused, so that there is a truth."""
        self.guest.shell("sync")
        with self.guest.paused():
            for who in self.order:
                who.back_up(self.guest.image)
            for who in self.order:
                target = self.work / f"restored-{type(who).__name__}"
                subprocess.run(["sync"], check=True)
                record(results, STEPS[3], who, who.restore(target))
                restored = who.restored_tree(target, self.guest.image)
                self.checks[f"{who.name} restores the same disk"] = same(self.guest, restored)

    def _one_file(self) -> None:
        if not has_command(self.ours, "vm", "restore-files"):
            return
        target = self.work / "files"
        took = self.ours.cli(
            *("vm", "restore-files", "bench", "--recovery-point", "latest"),
            *("--path", "/osdisk/data-1", "--to", str(target), "--wait"),
        )
        self._note("one file s", took.wall_seconds)
        found = list(target.rglob("data-1"))
        self.checks["one file comes out"] = bool(found) and found[0].stat().st_size == FILE_BYTES

    def _note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)


def same(guest: BenchGuest, restored: Path) -> bool:
    """By qemu-img, which reads the paused guest's image."""
    words = ["qemu-img", "compare", "-U", "-f", "qcow2", "-F", "qcow2"]
    done = subprocess.run([*words, str(guest.image), str(restored)], check=False,
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        print(f"    differs: {done.stdout}{done.stderr}", flush=True)
    return done.returncode == 0


def goals(results: Results, figures: Figures) -> list[str]:
    def figure(name: str) -> float | None:
        return max(figures[name]) if figures.get(name) else None

    rows: list[tuple[str, float | None, float]] = [
        ("1 % at random / restic", middle(results, STEPS[1], "restic"), 0.15),
        ("1 % in one run / restic", middle(results, STEPS[2], "restic"), 0.15),
        (
            "restore / qemu-img convert (0.7 of its speed)",
            middle(results, STEPS[3], "qemu-img convert"),
            1.43,
        ),
        ("virtual CPUs stopped, ms (worst)", figure("stop ms"), 50),
        ("file systems frozen, ms (worst)", figure("freeze ms"), 500),
        ("random: bytes read / dirty (worst)", figure(f"{STEPS[1]}: read / dirty"), 1.1),
        ("one run: bytes read / dirty (worst)", figure(f"{STEPS[2]}: read / dirty"), 1.1),
        ("instant restore: ready / local boot", figure("instant / local"), 1.5),
        ("one file, s", figure("one file s"), 10),
    ]
    return goals_table(rows)


def one_round(
    number: int, base: Path, files: GuestFiles, arguments: argparse.Namespace, results: Results
) -> Round:
    work = arguments.data_folder.resolve() / f"vm-round-{number + 1}"
    shutil.rmtree(work, ignore_errors=True)
    with guest_folder() as folder:
        guest = boot(folder, base, files)
        try:
            done = Round(guest, work, size_of(arguments.data), number)
            done.run(results)
        finally:
            guest.kill()
            shutil.rmtree(work, ignore_errors=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="20G", help="of the disk")
    parser.add_argument("--data", default="4G", help="on the disk")
    parser.add_argument("--data-folder", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    if lacking := missing() + missing_tools():
        print(f"bench: not installed: {', '.join(lacking)}", file=sys.stderr)
        return 2
    base = arguments.data_folder / f"vm-{arguments.size}-{arguments.data}.qcow2"
    build_image(base, size_of(arguments.size), size_of(arguments.data))
    files = build_guest()
    results: Results = {}
    figures: Figures = {}
    checks: dict[str, bool] = {}
    for number in range(arguments.rounds):
        print(f"round {number + 1}", flush=True)
        done = one_round(number, base, files, arguments, results)
        for name, values in done.figures.items():
            figures.setdefault(name, []).extend(values)
        checks |= {f"round {number + 1}: {name}": held for name, held in done.checks.items()}
    version = subprocess.run(["qemu-img", "--version"], capture_output=True, check=True, text=True)
    facts = machine_facts() | {"qemu-img": version.stdout.splitlines()[0]}
    facts |= {name: ", ".join(f"{one:.2f}" for one in values) for name, values in figures.items()}
    subject = f"a disk of {arguments.size} with {arguments.data} of data"
    report = Report("vm", "VM benchmark", subject, STEPS, goals(results, figures))
    write_report(arguments.results, report, results, checks, facts)
    print("\n".join(report.goals))
    walls = {
        step: {who: statistics.median(row["wall"] for row in rows) for who, rows in by.items()}
        for step, by in results.items()
    }
    print(json.dumps(walls, indent=2))
    return 0 if all(checks.values()) and OURS in results[STEPS[0]] else 1


if __name__ == "__main__":
    sys.exit(main())
