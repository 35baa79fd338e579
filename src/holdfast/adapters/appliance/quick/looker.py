"""Keeps ``FileLooker``: asks the short way first, and the appliance for what that leaves."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from holdfast.adapters.appliance.channel import Channel, confused
from holdfast.adapters.appliance.looker import AskedPoint
from holdfast.adapters.appliance.quick.words import MAX_READ, NEED, NEEDED
from holdfast.errors import HoldfastError, SourceError
from holdfast.ports.block_device import BlockSource
from holdfast.ports.point_files import FileLooker, FoundFile, Piece, PointFiles, Volume

log = logging.getLogger("holdfast.appliance")
T = TypeVar("T")
SILENCE_SECONDS = 60.0
END_SECONDS = 5.0
PROCESS = "holdfast.adapters.appliance.quick.process"
OURS = ("ApplianceLost", "ApplianceSilent", "ApplianceConfused")


class QuickLooker:
    """``appliance``: for everything else."""

    def __init__(self, appliance: FileLooker, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._appliance = appliance
        self._silence = silence_seconds
        self._here = importlib.util.find_spec("pytsk3") is not None

    @contextmanager
    def open(
        self, disks: Mapping[str, BlockSource], stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[PointFiles]:
        with ExitStack() as ending:
            yield _Point(self, disks, stopped, ending)

    def start(
        self, disks: Mapping[str, BlockSource], stopped: Callable[[], bool], ending: ExitStack
    ) -> PointFiles | None:
        """The short way; None when it is closed, or does not come up."""
        if not self._here:
            return None
        ours, theirs = socket.socketpair()
        ending.callback(ours.close)
        try:
            with theirs:
                found = os.pathsep.join(
                    one for one in sys.path if one
                )  # never the folder we are in
                words = [word for name, disk in disks.items() for word in (name, str(disk.size))]
                running = subprocess.Popen(
                    [sys.executable, "-P", "-m", PROCESS, str(theirs.fileno()), *words],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    env={"PATH": os.defpath, "TZ": "UTC", "PYTHONPATH": found},
                )
            ending.callback(_end, running)
            channel = _Serving(ours, self._silence, stopped, list(disks.values()))
            channel.greet()
        except (OSError, SourceError) as error:
            log.warning("the process that reads file systems did not start: %s", error)
            return None
        return AskedPoint(channel)

    def start_appliance(
        self, disks: Mapping[str, BlockSource], stopped: Callable[[], bool], ending: ExitStack
    ) -> PointFiles:
        return ending.enter_context(self._appliance.open(disks, stopped))

    def close_short_way(self, why: HoldfastError) -> None:
        """It broke in the middle of files: the next try is the appliance's."""
        log.warning("files are read by the appliance from now on: %s", why.message)
        self._here = False


class _Serving(Channel):
    """Gives the process the blocks it asks for, in the midst of an answer."""

    def __init__(
        self,
        port: socket.socket,
        silence_seconds: float,
        stopped: Callable[[], bool],
        disks: Sequence[BlockSource],
    ) -> None:
        super().__init__(port, silence_seconds, stopped)
        self._disks = disks

    def _frame(self) -> tuple[bytes, bytes]:
        while True:
            kind, payload = super()._frame()
            if kind != NEED:
                return kind, payload
            self._send(self._needed(payload))

    def _needed(self, payload: bytes) -> bytes:
        if len(payload) != NEEDED.size:
            raise confused("it asks for no block")
        number, offset, length = NEEDED.unpack(payload)
        if number >= len(self._disks) or length > MAX_READ:
            raise confused("it asks for a block that cannot be")
        disk = self._disks[number]
        if offset + length > disk.size:
            raise confused("it asks for a block behind the disk's end")
        found = bytearray(length)
        disk.read_into(offset, memoryview(found))
        return bytes(found)


class _Point:
    """See ``PointFiles``. Each way is opened when it is needed."""

    def __init__(
        self,
        looker: QuickLooker,
        disks: Mapping[str, BlockSource],
        stopped: Callable[[], bool],
        ending: ExitStack,
    ) -> None:
        self._looker, self._disks = looker, disks
        self._stopped, self._ending = stopped, ending
        self._short = looker.start(disks, stopped, ending)
        self._appliance: PointFiles | None = None

    def volumes(self) -> list[Volume]:
        return self._try(lambda files: files.volumes())

    def list(self, path: bytes, after: bytes, limit: int) -> tuple[list[FoundFile], bool]:
        return self._try(lambda files: files.list(path, after, limit))

    def read(self, paths: Sequence[bytes]) -> Iterator[Piece]:
        begun = False
        if self._short is not None:
            try:
                for piece in self._short.read(paths):
                    begun = True
                    yield piece
                return
            except SourceError as error:
                if error.code not in OURS:
                    raise
                if begun:
                    self._looker.close_short_way(error)
                    raise
                self._short = None
        yield from self._whole().read(paths)

    def _try(self, ask: Callable[[PointFiles], T]) -> T:
        if self._short is not None:
            try:
                return ask(self._short)
            except SourceError as error:
                if error.code not in OURS:
                    raise
                log.info("left to the appliance: %s", error.message)
                self._short = None
        return ask(self._whole())

    def _whole(self) -> PointFiles:
        if self._appliance is None:
            self._appliance = self._looker.start_appliance(self._disks, self._stopped, self._ending)
        return self._appliance


def _end(running: subprocess.Popen[bytes]) -> None:
    running.kill()
    running.wait(END_SECONDS)
