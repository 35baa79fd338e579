"""The appliance's kernel and initial file system, made of Debian's packages and of ``inside``."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from holdfast.adapters.appliance.packages import (
    SEARCH,
    Programs,
    mark_done,
    missing_tools,
    run,
    unavailable,
    unpacked,
)

__all__ = ["ApplianceImage", "build_image", "missing_tools"]
START = ("virtio_pci", "virtio_blk", "virtio_console")
MODULES = {
    "xfs": ("xfs",),
    "btrfs": ("btrfs",),
    "vfat": ("vfat", "nls_cp437", "nls_ascii", "nls_iso8859-1", "nls_utf8"),
    "exfat": ("exfat", "nls_utf8"),
    "ntfs": ("fuse",),
    "lvm": ("dm-mod", "dm-snapshot", "dm-thin-pool", "dm-mirror", "dm-raid", "dm-cache-smq"),
}
PROGRAMS = ("busybox", "ntfs-3g", "lvm")
ENCODINGS = ("__init__", "aliases", "ascii", "utf_8", "latin_1")
PYTHON_NEEDS = (
    *("os.py", "struct.py", "__future__.py"),
    *(f"encodings/{name}.py" for name in ENCODINGS),
)
FOLDERS = ("bin", "proc", "sys", "dev", "run", "lib/modules", "lib64", "usr/bin", "holdfast")
INSIDE = "holdfast.adapters.appliance.inside"


@dataclass(frozen=True, slots=True)
class ApplianceImage:
    """What QEMU boots. ``place``: where what it writes is kept meanwhile."""

    kernel: Path
    initrd: Path
    place: Path


def build_image(cache: Path) -> ApplianceImage:
    """The image of this version, from ``cache``; built when that has none, which fetches some 35 MB
    of packages. SourceError (ApplianceUnavailable)."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _only_one(cache):
            made = cache / _version()
            image = ApplianceImage(made / "vmlinuz", made / "initrd.cpio", cache)
            if not (made / "done").exists():
                shutil.rmtree(made, ignore_errors=True)
                _build(unpacked(cache), made, image)
                mark_done(made, image.kernel, image.initrd)
        return image
    except OSError as error:
        raise unavailable(f"{error.filename or cache}: {error.strerror}") from error


@contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _inside() -> dict[str, bytes]:
    files = resources.files(INSIDE).iterdir()
    found = {one.name: one.read_bytes() for one in files if one.is_file()}
    return {name: found[name] for name in sorted(found) if name.endswith((".py", ".sh"))}


def _version() -> str:
    """Changes with anything of ours that goes into the image."""
    parts = (*_inside().values(), Path(__file__).read_bytes())
    return "image-" + hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _build(tree: Path, made: Path, image: ApplianceImage) -> None:
    root = made / "root"
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    kernel = _only(tree / "boot", "vmlinuz-*")
    shutil.copy(kernel, image.kernel)
    programs = [_program(tree, name) for name in PROGRAMS]
    for program in programs:
        shutil.copy(program, root / "bin" / program.name)
    python = _only(tree / "usr/bin", "python3.*")
    shutil.copy(python, root / "usr/bin/python3")
    runner = Programs(tree)
    _add_libraries(root, runner.libraries([*programs[1:], python]))
    _add_python(tree / "usr/lib" / python.name, root / "usr/lib" / python.name)
    _add_modules(tree, kernel.name.removeprefix("vmlinuz-"), root / "lib/modules")
    for name, content in _inside().items():
        place = root / "init" if name == "init.sh" else root / "holdfast/inside" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        place.chmod(0o755)
    ours = (root / "usr/lib" / python.name, root / "holdfast")
    runner.compile(python, tree / "usr", *ours)
    _pack(root, image.initrd)
    _open_to_qemu(image)
    shutil.rmtree(root)


def _open_to_qemu(image: ApplianceImage) -> None:
    """QEMU, which is nobody, opens them by itself, whatever the umask of the service is."""
    for path in (image.kernel, image.initrd):
        path.chmod(0o644)


def _program(tree: Path, name: str) -> Path:
    for folder in ("bin", "sbin", "usr/bin", "usr/sbin"):
        found = tree / folder / name
        if found.is_file():
            return found
    raise unavailable(f"the packages hold no program {name}")


def _only(folder: Path, pattern: str) -> Path:
    found = next(folder.glob(pattern), None)
    if found is None:
        raise unavailable(f"the packages hold no {pattern} in {folder}")
    return found


def _add_libraries(root: Path, found: Iterable[Path]) -> None:
    """All into the folder the loader searches by itself; the loader where programs look for it."""
    for library in found:
        place = "lib64" if library.name.startswith("ld-linux") else "lib"
        shutil.copy(library, root / place / library.name)


def _add_python(library: Path, place: Path) -> None:
    (place / "lib-dynload").mkdir(parents=True)  # by which Python knows its place
    for name in PYTHON_NEEDS:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library / name, place / name)


def _add_modules(tree: Path, version: str, place: Path) -> None:
    """Modules, and for each use a list of them in the order they are to be loaded."""
    base = tree if (tree / "lib/modules").is_dir() else tree / "usr"
    run("depmod", "-b", str(base), version)
    for use, modules in {"start": START, **MODULES}.items():
        order: dict[str, None] = {}
        for module in modules:
            words = ("modprobe", "-d", str(base), "-S", version, "--show-depends", module)
            order |= dict.fromkeys(re.findall(r"^insmod (\S+)", run(*words), re.M))
        for path in order:
            shutil.copy(path, place)
        text = "".join(f"{Path(path).name}\n" for path in order)
        (place / use).write_text(text)


def _pack(root: Path, initrd: Path) -> None:
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    words = ("cpio", "-o", "-H", "newc", "--quiet", "--reproducible", "-R", "0:0")
    with initrd.open("wb") as out:
        done = subprocess.run(
            words,
            input="\n".join(names).encode(),
            stdout=out,
            stderr=subprocess.PIPE,
            cwd=root,
            env={"PATH": SEARCH},
            check=False,
        )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise unavailable(f"cpio failed: {said[-500:]}")
