"""Where an NBD server listens: a socket file, or a port of this machine.

The protocol as spoken here is neither encrypted nor authenticated, so nothing else is offered. A
socket file in a private folder lets in its owner; a port lets in every process of the machine.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from holdfast.errors import UsageError

MAX_PATH = 107  # [bytes] a socket's address has room for


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket file. UsageError (SocketPathTooLong) when the system cannot hold its path."""

    path: Path

    def __post_init__(self) -> None:
        if len(bytes(self.path)) > MAX_PATH:
            raise UsageError(
                f"{self.path} is longer than the {MAX_PATH} bytes a socket's path may have",
                code="SocketPathTooLong",
                hint="choose a folder with a shorter path",
            )

    def __str__(self) -> str:
        return str(self.path)

    def uri(self, export: str) -> str:
        """As QEMU, libnbd and others take it."""
        return f"nbd+unix:///{quote(export, safe='')}?socket={quote(str(self.path))}"

    def open(self, seconds: float) -> socket.socket:
        """A connection. OSError."""
        return _opened(socket.AF_UNIX, str(self.path), seconds)


@dataclass(frozen=True, slots=True)
class LoopbackPort:
    """A TCP port of 127.0.0.1."""

    port: int

    def __str__(self) -> str:
        return f"127.0.0.1:{self.port}"

    def uri(self, export: str) -> str:
        """As QEMU, libnbd and others take it."""
        return f"nbd://127.0.0.1:{self.port}/{quote(export, safe='')}"

    def open(self, seconds: float) -> socket.socket:
        """A connection. OSError."""
        opened = _opened(socket.AF_INET, ("127.0.0.1", self.port), seconds)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened


Address = UnixSocket | LoopbackPort


def _opened(family: int, target: str | tuple[str, int], seconds: float) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.settimeout(seconds)
        opened.connect(target)
    except BaseException:
        opened.close()
        raise
    return opened
