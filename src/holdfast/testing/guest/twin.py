"""The test guest as it was started from a recovery point, by the product."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.errors import SourceError
from holdfast.testing.guest.machine import GuestMachine
from holdfast.testing.wait import eventually


class Twin(GuestMachine):
    """The machine that was restored, which somebody else started."""

    def __init__(self, home: Path) -> None:
        super().__init__(home, [])

    @property
    def agent(self) -> Path:
        return self.folder / "agent.sock"

    def control(self, command: str, **arguments: Any) -> Any:
        """By the monitor that backups have, when the agent does not look at the machine."""
        opened: list[QmpConnection] = []

        def free() -> bool:
            try:
                opened.append(QmpConnection(self.folder / "backup.sock"))
            except SourceError as error:
                if error.code != "MonitorBusy":
                    raise
            return bool(opened)

        eventually(free, "the machine's monitor is free", seconds=60)
        with opened[0] as monitor:
            return monitor.execute(command, **arguments)

    @property
    def boots(self) -> int:
        return int(self.shell("cat /mnt/a/boots"))


def kill(pid_file: Path) -> None:
    """SIGKILL to a machine of ours, and wait for its end."""
    with suppress(FileNotFoundError, ProcessLookupError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "QEMU has ended")
    pid_file.unlink(missing_ok=True)
