"""Reading the exports of a snapshot with qemu-img, so that tests do not trust a client of ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from holdfast.ports.hypervisor import DiskExport


class PullFailedError(AssertionError):
    """qemu-img could not read the export."""


def pull(export: DiskExport, copy: Path) -> int:
    """Bring ``copy`` (a raw file) to the state of the export: all of it, or what is dirty if the
    export knows. Returns the bytes read."""
    if export.dirty_context is None:
        _run("convert", "--image-opts", "-O", "raw", _source(export), str(copy))
        return export.disk.size
    return sum(_piece(export, copy, offset, length) for offset, length in dirty(export))


def dirty(export: DiskExport) -> list[tuple[int, int]]:
    """Offset and length of what changed since the parent."""
    options = f"{_source(export)},x-dirty-bitmap={export.dirty_context}"
    shown = json.loads(_run("map", "--output=json", "--image-opts", options))
    return [(one["start"], one["length"]) for one in shown if not one["data"]]


def _piece(export: DiskExport, copy: Path, offset: int, length: int) -> int:
    part = copy.with_name(copy.name + ".part")
    nested = ",".join(f"file.{word}" for word in _source(export).split(","))
    _run(
        *("convert", "-O", "raw", "--image-opts"),
        f"driver=raw,offset={offset},size={length},{nested}",
        str(part),
    )
    with copy.open("r+b") as out, part.open("rb") as data:
        out.truncate(export.disk.size)
        out.seek(offset)
        out.write(data.read())
    part.unlink()
    return length


def _source(export: DiskExport) -> str:
    return (
        f"driver=nbd,server.type=unix,server.path={export.socket},"
        f"export={export.export},reconnect-delay=0"
    )


def _run(*words: str) -> str:
    done = subprocess.run(
        ("qemu-img", *words), capture_output=True, check=False, text=True, timeout=60
    )
    if done.returncode != 0:
        raise PullFailedError(done.stderr)
    return done.stdout
