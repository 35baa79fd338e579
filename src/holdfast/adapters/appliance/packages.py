"""Debian's packages the appliance is made of, fetched once into a folder and unpacked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from holdfast.errors import SourceError
from holdfast.files import write_whole

KERNEL, PYTHON = "linux-image-cloud-amd64", "python3-minimal"
PROGRAMS = ("busybox-static", "ntfs-3g", "lvm2")
LIBRARY = re.compile(r"^lib(?!pam|semanage|sepol|ssl|gnutls|newt|slang|db5|debian)[a-z0-9.+-]+$")
TOOLS = ("apt-get", "apt-cache", "dpkg", "depmod", "modprobe", "cpio")
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
SECONDS = 600


def missing_tools() -> list[str]:
    """Names of programs that building the appliance needs and this machine lacks."""
    return [name for name in TOOLS if shutil.which(name, path=SEARCH) is None]


def unpacked(cache: Path) -> Path:
    """The tree the packages are unpacked in; fetched when it is not there. SourceError
    (ApplianceUnavailable)."""
    place = cache / "packages"
    if (place / "done").exists():
        return place / "tree"
    if missing := missing_tools():
        raise unavailable(f"these programs are missing: {', '.join(missing)}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o755, parents=True)
    names = _names()
    run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *names, cwd=place)
    for package in sorted(place.glob("*.deb")):
        run("dpkg", "-x", str(package), str(place / "tree"))
        package.unlink()
    mark_done(place, *(one for one in (place / "tree").rglob("*") if one.is_file()))
    return place / "tree"


def mark_done(place: Path, *files: Path) -> None:
    """Say that ``place`` is whole once its files are on the disk: after a power cut it would be
    believed with empty ones in it. OSError."""
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    write_whole(place / "done", b"")


def _names() -> list[str]:
    """The kernel, the programs, and the libraries those need."""
    found = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", KERNEL))
    if found is None:
        raise unavailable(f"apt knows no {KERNEL}")
    options = [f"--no-{what}" for what in ("recommends", "suggests", "conflicts", "breaks")]
    options += ["--no-replaces", "--no-enhances", "--recurse"]
    listed = run("apt-cache", "depends", *options, PYTHON, *PROGRAMS)
    needed = {line for line in listed.splitlines() if line and not line.startswith((" ", "<"))}
    python = [name for name in needed if re.fullmatch(r"python3\.\d+-minimal", name)]
    return sorted({found.group(1), *python, *PROGRAMS, *filter(LIBRARY.match, needed)})


class Programs:
    """Programs of the tree, run here by the tree's own loader and libraries."""

    def __init__(self, tree: Path) -> None:
        places = sorted({str(path.parent) for path in tree.glob("**/lib/*-linux-gnu/*.so*")})
        self.loader = next(tree.glob("**/lib/*/ld-linux-x86-64.so.2"), Path())
        if not self.loader.name:
            raise unavailable("the C library has no loader for this kind of processor")
        self._words = [str(self.loader), "--inhibit-cache", "--library-path", ":".join(places)]

    def libraries(self, programs: Iterable[Path]) -> list[Path]:
        """The shared libraries that programs need."""
        found: dict[str, Path] = {self.loader.name: self.loader}
        for program in programs:
            said = run(*self._words, "--list", str(program))
            for name, path in re.findall(r"^\s*([^\s/]+) => (\S+)", said, re.M):
                found.setdefault(name, Path(path))
        return [path.with_name(name) for name, path in found.items()]

    def compile(self, python: Path, home: Path, *folders: Path) -> None:
        """Compile what lies in ``folders``, so that the appliance need not."""
        words = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
        run(*self._words, str(python), *words, *map(str, folders), PYTHONHOME=str(home))


def run(*words: str, cwd: Path | None = None, **environment: str) -> str:
    """What a program prints. SourceError (ApplianceUnavailable)."""
    environment = {**os.environ, "PATH": SEARCH, "LC_ALL": "C", **environment}
    try:
        done = subprocess.run(
            words, capture_output=True, check=False, cwd=cwd, env=environment, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise unavailable(f"{words[0]} could not be run: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise unavailable(f"{words[0]} failed: {said[-500:]}")
    return done.stdout.decode(errors="replace")


def unavailable(why: str) -> SourceError:
    return SourceError(
        f"the machine that reads file systems cannot be had: {why}",
        code="ApplianceUnavailable",
        hint="on a host with Debian's packages: apt-get install qemu-system-x86 qemu-utils cpio "
        "kmod, then holdfast agent appliance",
    )
