"""Refusing to keep an SQLite file where its locks do not hold."""

from __future__ import annotations

from pathlib import Path

from holdfast.errors import UsageError

NETWORK_TYPES = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs"})
MOUNTS = Path("/proc/self/mounts")


def filesystem_type(folder: Path, mounts: str) -> str:
    """The type of the file system ``folder`` lies on, from a mount table; "" when unknown."""
    best, found = -1, ""
    real = folder.resolve()
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if (real == point or point in real.parents) and len(point.parts) >= best:
            best, found = len(point.parts), fields[2]
    return found


def refuse_network_folder(folder: Path) -> None:
    """UsageError (CatalogOnNetworkFolder) for NFS, SMB and the like; unknown systems pass."""
    try:
        mounts = MOUNTS.read_text(errors="replace")
    except OSError:
        return
    kind = filesystem_type(folder, mounts)
    if kind in NETWORK_TYPES:
        raise UsageError(
            f"{folder} lies on a network file system ({kind}), where SQLite cannot be trusted",
            code="CatalogOnNetworkFolder",
            hint="put the data folder on a local disk, or use PostgreSQL for the catalog",
        )
