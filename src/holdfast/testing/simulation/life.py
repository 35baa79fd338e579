"""One incarnation of a simulated process."""

from __future__ import annotations


class CrashError(BaseException):
    """The process is gone. No handler of errors may see it."""


class Life:
    """``dead`` once it crashed. ``opening``: it reads the vault and has nothing to lose yet.
    ``deceived``: keys of which it was shown damaged bytes; of a log record, which is read again, so
    often in a row that it had to count as damaged. ``misread``: how often in a row so far."""

    def __init__(self, process: str, name: str) -> None:
        self.process = process
        self.name = name
        self.dead = False
        self.opening = False
        self.deceived: set[str] = set()
        self.misread: dict[str, int] = {}

    def shown(self, key: str, *, rotten: bool, wrong: bool, patience: int) -> None:
        """It read an object, which came wrong or right; ``rotten``: any reading would be wrong."""
        self.misread[key] = self.misread.get(key, 0) + 1 if wrong else 0
        if rotten or self.misread[key] >= patience:
            self.deceived.add(key)

    def check(self) -> None:
        if self.dead:
            raise CrashError
