"""An image that no machine has, read as a disk: through a storage daemon of ours."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from holdfast.adapters.hypervisor.qemu import exports
from holdfast.adapters.hypervisor.qemu.storage_daemon import StorageDaemon
from holdfast.nbd.address import UnixSocket
from holdfast.nbd.device import NbdSource
from holdfast.ports.block_device import BlockSource

DISK = "disk"


@contextmanager
def read_image(path: Path, form: str) -> Iterator[BlockSource]:
    """``form``: qcow2 or raw. SourceError (ToolMissing, DiskUnreadable, ...)."""
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="holdfast-"))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        daemon = StorageDaemon(folder)
        ending.callback(daemon.close)
        file = {"driver": "file", "filename": str(path), "locking": "off"}
        daemon.monitor.execute(
            "blockdev-add", driver=form, node_name=DISK, file=file, read_only=True
        )
        socket = folder / "nbd.sock"
        exports.start_server(daemon.monitor, socket)
        daemon.monitor.execute("block-export-add", type="nbd", id=DISK, node_name=DISK, name=DISK)
        source = NbdSource.open(UnixSocket(socket), DISK, None)
        ending.callback(source.close)
        yield source
