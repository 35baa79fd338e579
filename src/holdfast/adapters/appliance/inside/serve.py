"""Answers the host's requests, one after the other, until the port closes."""

from __future__ import annotations

import os
import time

from . import tree, volumes, wire

PORTS = "/sys/class/virtio-ports"


class Port:
    """The virtio port to the host."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR)

    def request(self) -> list[bytes]:
        (length,) = wire.LENGTH.unpack(self._exactly(wire.LENGTH.size))
        return self._exactly(min(length, wire.MAX_REQUEST)).split(b"\0")

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = os.read(self._fd, count - len(found))
            if not piece:
                raise EOFError
            found += piece
        return found

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        data = memoryview(wire.HEAD.pack(kind, len(payload)) + payload)
        while data:
            data = data[os.write(self._fd, data) :]


def answer(port: Port, fields: list[bytes]) -> bytes:
    """Do one request; what its END says."""
    known = volumes.Volumes()
    if fields[0] == b"volumes":
        for volume in known.all():
            port.send(wire.VOLUME, volume.packed())
        return b""
    if fields[0] == b"list":
        return tree.list_folder(port.send, known, fields[1], fields[2], int(fields[3]))
    if fields[0] == b"read":
        for path in fields[1:]:
            tree.read_path(port.send, known, path)
        return b""
    return b"InternalError\0unknown request"


def find_port() -> str:
    """The only port there is; it may take a moment to appear."""
    while True:
        names = os.listdir(PORTS) if os.path.isdir(PORTS) else []
        if names and os.path.exists(f"/dev/{names[0]}"):
            return f"/dev/{names[0]}"
        time.sleep(0.01)


def main() -> None:
    port = Port(find_port())
    port.send(wire.READY)
    while True:
        fields = port.request()
        try:
            said = answer(port, fields)
        except volumes.TroubleError as error:
            said = error.code + b"\0" + error.message
        except OSError as error:
            said = b"FileSystemUnreadable\0" + (error.strerror or "failed").encode()
        port.send(wire.END, said)
