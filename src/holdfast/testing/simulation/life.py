"""One incarnation of a simulated process."""

from __future__ import annotations


class CrashError(BaseException):
    """The process is gone. No handler of errors may see it."""


class Life:
    """``dead`` once it crashed. ``opening``: it reads the vault and has nothing to lose yet.
    ``deceived``: keys of which it was shown damaged bytes."""

    def __init__(self, process: str, name: str) -> None:
        self.process = process
        self.name = name
        self.dead = False
        self.opening = False
        self.deceived: set[str] = set()

    def check(self) -> None:
        if self.dead:
            raise CrashError
