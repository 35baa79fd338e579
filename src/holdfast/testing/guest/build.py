"""Builds the test guest from Debian packages: a kernel, busybox and the real guest agent.

Needs ``apt-get``, ``dpkg``, ``depmod`` and ``modprobe`` (kmod), ``cpio`` and a static
``/bin/busybox``; no root. The packages are downloaded once into the cache folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from holdfast import guest_files
from holdfast.errors import SourceError

MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_mmio")
TOOLS = ("apt-get", "apt-cache", "dpkg", "depmod", "modprobe", "cpio", "ldd")
QEMU = ("qemu-system-x86_64", "qemu-img", "qemu-storage-daemon", "mkfs.ext4")
FOLDERS = ("bin", "sbin", "proc", "sys", "dev", "run", "tmp", "mnt", "lib/modules", "usr/sbin")
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """What QEMU boots."""

    kernel: Path
    initrd: Path


def cache_folder() -> Path:
    """Where packages and the built guest are kept: $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "holdfast" / "test-guest"


def missing_tools() -> list[str]:
    """Names of programs that building and booting need and this machine lacks."""
    missing = [name for name in (*TOOLS, *QEMU) if shutil.which(name, path=SEARCH) is None]
    return missing if Path("/bin/busybox").exists() else [*missing, "busybox"]


def build_guest(cache: Path | None = None) -> GuestFiles:
    """The guest of this version of the source; built when the cache has none. SourceError
    (TestGuestFailed) when a tool is missing or a package cannot be had."""
    cache = cache or cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with _only_one(cache):
        made = cache / _version()
        files = GuestFiles(made / "vmlinuz", made / "initrd.cpio")
        if not (made / "done").exists():
            shutil.rmtree(made, ignore_errors=True)
            _build(_packages(cache), made, files)
            (made / "done").touch()
    return files


@contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _version() -> str:
    """Changes with anything of ours that goes into the guest."""
    parts = (_init(), guest_files.content(guest_files.HOOK), Path(__file__).read_bytes())
    return "guest-" + hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _init() -> bytes:
    return resources.files("holdfast.testing.guest").joinpath("init.sh").read_bytes()


def _packages(cache: Path) -> Path:
    """The folder the two packages are unpacked in."""
    if missing := missing_tools():
        raise _failed(f"these programs are missing: {', '.join(missing)}")
    place = cache / "packages"
    if (place / "done").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o755)
    depends = _run("apt-cache", "depends", "linux-image-cloud-amd64")
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise _failed("apt knows no linux-image-cloud-amd64")
    names = (found.group(1), "qemu-guest-agent")
    _run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *names, cwd=place)
    for package in place.glob("*.deb"):
        _run("dpkg", "-x", str(package), str(place / "tree"))
    (place / "done").touch()
    return place


def _build(packages: Path, made: Path, files: GuestFiles) -> None:
    tree = packages / "tree"
    root = made / "root"
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    shutil.copy(kernel, files.kernel)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    _add_agent(tree, root)
    _add_modules(tree, kernel.name.removeprefix("vmlinuz-"), root)
    _add_file(root, "/init", _init(), 0o755)
    _add_file(root, guest_files.HOOK_PLACE, guest_files.content(guest_files.HOOK), 0o755)
    (root / "etc" / "azure").mkdir()
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    with files.initrd.open("wb") as out:
        words = ("cpio", "-o", "-H", "newc", "--quiet", "--reproducible", "-R", "0:0")
        listed = "\n".join(names).encode()
        subprocess.run(words, input=listed, stdout=out, cwd=root, check=True, env=_environment())
    shutil.rmtree(root)


def _add_agent(tree: Path, root: Path) -> None:
    """``qemu-ga`` and the libraries it is linked with, at their own paths."""
    agent = tree / "usr" / "sbin" / "qemu-ga"
    shutil.copy(agent, root / "usr" / "sbin" / "qemu-ga")
    for library in sorted(set(re.findall(r"(/\S+)", _run("ldd", str(agent))))):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)


def _add_modules(tree: Path, version: str, root: Path) -> None:
    """Modules in the order they are to be loaded, and a list of it."""
    _run("depmod", "-b", str(tree), version)
    order: dict[str, None] = {}
    for module in MODULES:
        words = ("modprobe", "-d", str(tree), "-S", version, "--show-depends", module)
        order |= dict.fromkeys(re.findall(r"^insmod (\S+)", _run(*words), re.MULTILINE))
    for path in order:
        shutil.copy(path, root / "lib" / "modules")
    text = "".join(f"{Path(path).name}\n" for path in order)
    (root / "lib" / "modules" / "order").write_text(text)


def _add_file(root: Path, place: str, content: bytes, mode: int) -> None:
    path = root / place.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": SEARCH, "LC_ALL": "C"}


def _run(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        words, capture_output=True, check=False, cwd=cwd, env=_environment(), timeout=240
    )
    if done.returncode != 0:
        raise _failed(f"{words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


def _failed(why: str) -> SourceError:
    return SourceError(
        f"the test guest cannot be built: {why}",
        code="TestGuestFailed",
        hint="apt-get install qemu-system-x86 qemu-utils busybox-static cpio kmod; Debian's "
        "packages must be reachable",
    )
