"""Work of this very process: its progress, and Ctrl-C, after which the command can go on."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from holdfast.cli.follow import Bars, Lines, Painter

PAINT_SECONDS = 0.2


class Figures(Protocol):
    """What there is to show; read while others write it."""

    phase: str
    done_files: int
    done_bytes: int
    total_files: int | None
    total_bytes: int | None
    transferred_bytes: int


@contextmanager
def followed(figures: Figures) -> Iterator[Callable[[], bool]]:
    """Shows ``figures`` until the block ends; yields what tells whether to stop. A second Ctrl-C
    does not wait for the work to come to rest."""
    over, stop = threading.Event(), threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask_to_stop)
    painter: Painter = Bars() if sys.stderr.isatty() else Lines(quiet=False)
    thread = threading.Thread(target=_paint, args=(figures, painter, over), daemon=True)
    thread.start()
    try:
        yield stop.is_set
    finally:
        over.set()
        thread.join()
        painter.close()
        signal.signal(signal.SIGINT, before)


def _paint(figures: Figures, painter: Painter, over: threading.Event) -> None:
    while not over.wait(PAINT_SECONDS):
        painter.show(_body(figures))


def _body(figures: Figures) -> dict[str, Any]:
    """As a job of the server tells it."""
    progress = {
        "phase": figures.phase,
        "doneFiles": figures.done_files,
        "doneBytes": figures.done_bytes,
        "totalFiles": figures.total_files,
        "totalBytes": figures.total_bytes,
        "transferredBytes": figures.transferred_bytes,
    }
    ours = {"progress": progress}
    return {"properties": {"status": "InProgress", "operation": "Restore", "holdfast": ours}}
