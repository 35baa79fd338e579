"""libvirt's Python binding: an extra of ours, or the distribution's package beside our environment.

PyPI has the binding as source only, so hosts usually have the distribution's (python3-libvirt). It
is loaded by itself from there, without opening our environment to the rest of that folder.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable
from typing import Any

from holdfast.errors import SourceError

PLACES = (
    "/usr/lib/python3/dist-packages",
    f"/usr/lib64/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages",
    f"/usr/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages",
)
PARTS = ("libvirtmod", "libvirt", "libvirtmod_qemu", "libvirt_qemu")  # in the order of their needs
_lock = threading.Lock()
_looping: list[threading.Thread] = []


def installed() -> bool:
    """Whether the binding can be had."""
    try:
        load()
    except SourceError:
        return False
    return True


def load() -> tuple[Any, Any]:
    """``libvirt`` and ``libvirt_qemu``. SourceError (LibvirtMissing)."""
    with _lock:
        try:
            return importlib.import_module("libvirt"), importlib.import_module("libvirt_qemu")
        except ModuleNotFoundError:
            pass
        for place in PLACES:
            if _load_from(place):
                return sys.modules["libvirt"], sys.modules["libvirt_qemu"]
    raise SourceError(
        "libvirt's Python binding is not installed, or not for this version of Python",
        code="LibvirtMissing",
        hint="install it: apt install python3-libvirt, or pip install 'holdfast[libvirt]' (needs "
        "libvirt's development files)",
    )


def _load_from(place: str) -> bool:
    """All parts, or none."""
    loaded: list[str] = []
    for name in PARTS:
        spec = importlib.machinery.PathFinder.find_spec(name, [place])
        if spec is None or spec.loader is None:
            break
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loaded.append(name)
        try:
            spec.loader.exec_module(module)
        except ImportError:
            break
    else:
        return True
    for name in loaded:
        del sys.modules[name]
    return False


def start_events(libvirt: Any) -> None:
    """libvirt's event loop in a thread, once; needed before a connection is opened."""
    with _lock:
        if _looping:
            return
        libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised as well
        libvirt.virEventRegisterDefaultImpl()
        thread = threading.Thread(
            target=_turn, args=(libvirt.virEventRunDefaultImpl,), name="libvirt", daemon=True
        )
        _looping.append(thread)
        thread.start()


def _turn(run: Callable[[], int]) -> None:
    while run() >= 0:
        pass
